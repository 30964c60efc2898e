"""What each part of a run may take of the budget, by what the parts before it have taken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rlsf.pipeline.context import Run
from rlsf.pipeline.probe import held_out_count
from rlsf.pipeline.spent import Spent, of_stages
from rlsf.pipeline.waves import most_tokens
from rlsf.recipes.recipe import Recipe
from rlsf.training.spending import Allowance

WARM_UP, REWARD_MODEL, ONLINE, ACCEPTANCE = "warm-up", "reward model", "online", "acceptance"
#: Probes, each as long as it may be, that sampling leaves room for: as most answers are shorter, it is room for more.
PROBES_LEFT_FOR = 3


def part_of_round(round_: int) -> str:
    """The part that a round of preferences or dialogues is."""
    return f"round {round_}"


def parts(recipe: Recipe) -> tuple[str, ...]:
    """The parts of a run that share its budget, in their order."""
    if recipe.acceptance is not None:
        return (ACCEPTANCE,)
    online = recipe.online
    found = [WARM_UP] if online is not None and online.warm_up.steps else []
    found += [REWARD_MODEL] if recipe.reward_model is not None else []
    if online is not None:
        found.append(ONLINE)
    elif recipe.reward_model is None:
        found += map(part_of_round, range(1, recipe.rounds + 1))
    return tuple(found)


def folders(run: Run, part: str) -> tuple[Path, ...]:
    """Where the stages of a part lie."""
    folder = run.folder
    if part == WARM_UP:
        return (folder.warm_up,)
    if part == REWARD_MODEL:
        return folder.traces(1), folder.reward_checkpoints
    if part == ACCEPTANCE:
        return folder.traces(1), folder.acceptance_checkpoints
    if part == ONLINE:
        return (folder.checkpoints(1), *(() if run.recipe.reward_model else (folder.traces(1),)))
    round_ = int(part.removeprefix("round "))
    return folder.traces(round_), folder.checkpoints(round_)


def spent_before(run: Run, part: str, done: Iterable[Path] = ()) -> Spent:
    """What the parts before this one took, and its own stages in the folders ``done``."""
    order = parts(run.recipe)
    before = [folder for earlier in order[: order.index(part)] for folder in folders(run, earlier)]
    return sum(map(of_stages, [*before, *done]), Spent())


def allowance(run: Run, part: str, done: Iterable[Path] = ()) -> Allowance:
    """What a part may still take once its stages in the folders ``done`` have been paid for.

    The first p of P parts may take p/P of a cap together: what one leaves, the next may use.
    """
    return allowance_after(run.recipe, part, spent_before(run, part, done))


def allowance_after(recipe: Recipe, part: str, spent: Spent) -> Allowance:
    """The same once the parts before it, and what is done of itself, have spent so much."""
    budget, order = recipe.budget, parts(recipe)
    place = order.index(part)

    def left(cap: int | None, taken: int) -> int | None:
        return None if cap is None else max(0, cap * (place + 1) // len(order) - taken)

    return Allowance(
        generated_tokens=left(budget.generated_tokens, spent.generated_tokens),
        training_tokens=left(budget.training_tokens, spent.training_tokens),
        budget=budget,
        parts=len(order),
    )


def with_probes(recipe: Recipe, allowed: Allowance, prompts: int, turns: int = 1) -> Allowance:
    """The allowance of a training that is probed on so many prompts."""
    return replace(allowed, probe_tokens=prompts * turns * most_tokens(recipe, recipe.sampling, traces=1))


def less_probes(recipe: Recipe, allowed: Allowance, prompts: int, turns: int = 1) -> Allowance:
    """What sampling may take of an allowance so that there is enough left for the probes of the training after it, on
    those of ``prompts`` that are held out."""
    held_out = held_out_count(recipe.selection, prompts)
    return allowed.less(PROBES_LEFT_FOR * with_probes(recipe, allowed, held_out, turns).probe_tokens)
