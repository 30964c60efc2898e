"""Caps under which not even the first thing would be sampled: seen before any work is done."""

from __future__ import annotations

from rlsf.pipeline.attempts import most_of_attempts
from rlsf.pipeline.budgeting import ONLINE, WARM_UP, allowance_after, less_probes, parts
from rlsf.pipeline.dialogue_probe import of_dialogues, of_probe
from rlsf.pipeline.dialogues import most_of_dialogue
from rlsf.pipeline.online import of_guard
from rlsf.pipeline.probe import held_out_count
from rlsf.pipeline.spent import Spent
from rlsf.pipeline.waves import most_tokens
from rlsf.recipes.recipe import Recipe

PROMPT = "the first prompt"


def require_a_beginning(recipe: Recipe, prompts: int) -> None:
    """Raise ``InputError`` where the cap on generated tokens leaves nothing for the first prompt of so many.

    What later steps need is said when they come, for it depends on what was sampled.
    """
    part = parts(recipe)[0]
    if recipe.budget.generated_tokens is None or part == WARM_UP:
        return
    allowed, most = allowance_after(recipe, part, Spent()), most_tokens(recipe, recipe.sampling)
    held_out, kind = held_out_count(recipe.selection, prompts), "generated_tokens"
    if recipe.acceptance is not None:
        allowed.require(kind, most_of_attempts(recipe), "the attempts at the first prompt")
    elif recipe.introspection is not None:
        if held_out:  # these are sampled first, and leave enough for a dialogue
            by_majority = recipe.introspection.reward == "majority"
            most = most_tokens(recipe, recipe.sampling, recipe.introspection.samples[0] if by_majority else None)
            of_probe(recipe, allowed, prompts).require(kind, most, f"{PROMPT} that is held out")
        of_dialogues(recipe, allowed, prompts).require(kind, most_of_dialogue(recipe), "the first dialogue")
    elif part == ONLINE:
        if held_out:
            of_guard(recipe, allowed, held_out).require(kind, most, f"{PROMPT} that is held out for the guard")
    elif recipe.reward_model is not None:
        allowed.require(kind, most, PROMPT)
    else:
        less_probes(recipe, allowed, prompts).require(kind, most, PROMPT)
