"""What a run would do, tried on a few questions: rendered prompts, traces, answers, verdicts and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlsf.errors import InputError
from rlsf.introspection.attempts import Attempt, best_attempt
from rlsf.models import load_model, load_tokenizer
from rlsf.pipeline.attempt_rewards import rewarder
from rlsf.pipeline.context import prompts_to_learn_from
from rlsf.pipeline.cost import Cost, estimate_cost, estimate_online_cost
from rlsf.pipeline.dialogue_cost import estimate_dialogue_cost
from rlsf.pipeline.dialogues import turn_sampling
from rlsf.pipeline.least_budget import require_a_beginning
from rlsf.pipeline.missing_answers import warnings_of_answers
from rlsf.pipeline.preflight import require_a_batch, require_usable
from rlsf.pipeline.tried import Tried, try_prompts, warnings_of
from rlsf.pipeline.trying import LIMIT, TIMED, Example, Trying, examples_of
from rlsf.prompts import Prompt, has_gold, load_prompts, with_defaults
from rlsf.recipes.recipe import Recipe

if TYPE_CHECKING:
    from rlsf.introspection.config import IntrospectionConfig
    from rlsf.training.online_config import OnlineConfig


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """The examples, the extrapolated cost, all that was tried, and what would waste a run."""

    recipe: Recipe
    examples: Sequence[Example]
    cost: Cost
    tried: Sequence[Tried]
    warnings: Sequence[str] = ()


NOT_COUNTED = (
    "the estimate counts the traces that are measured alone, not the records, the acceptance model and the loops of"
    " acceptance"
)


def preview(recipe: Recipe, examples: int) -> Preview:
    """Try ``recipe`` on its first questions, in this process; writes nothing.

    Looks at all of its questions first, and raises ``InputError`` for what a run would refuse.
    """
    from rlsf.sampling.transformers_engine import TransformersEngine

    if recipe.model.server is not None:
        raise InputError("`rlsf check` measures what a model costs in this process: leave model.server out")
    tokenizer = load_tokenizer(recipe.model)
    prompts, questions = _questions(recipe)
    require_usable(recipe, [*prompts, *questions], tokenizer)
    if prompts:
        require_a_batch(recipe, len(prompts))
        require_a_beginning(recipe, len(prompts))
    trying = Trying(recipe, TransformersEngine(load_model(recipe.model), tokenizer), prompts, questions, examples)
    if recipe.online is not None and prompts:
        return _preview_online(trying, recipe.online)
    if recipe.introspection is not None and prompts:
        return _preview_dialogues(trying, recipe.introspection)
    tried = trying.traces()
    ranked = trying.ranked(tried)
    # An acceptance model learns from records, of which no pairs are made: what is measured is all that is estimated.
    learned_from = len(prompts) if recipe.acceptance is None else 0
    return Preview(
        recipe=recipe,
        examples=trying.shown(tried, ranked),
        cost=estimate_cost(recipe, learned_from, len(questions), trying.trial_of_pairs(tried, ranked)),
        tried=[tried],
        warnings=[
            *([] if recipe.acceptance is None else [NOT_COUNTED]),
            *ranked.warnings,
            *warnings_of_answers(recipe, [tried], shown=bool(examples)),
        ],
    )


def _preview_online(trying: Trying, online: OnlineConfig) -> Preview:
    """Prompts with completions as training draws them, at most a step's, and questions as they are measured, or traces
    as a reward model learns from them."""
    from rlsf.training.online_options import rollout_sampling

    recipe, engine, examples = trying.recipe, trying.engine, trying.examples
    step = max(examples, min(online.prompts_per_step, examples + TIMED))
    limit = "online.max_completion_length"
    rollouts = try_prompts(engine, trying.prompts[:step], rollout_sampling(online), recipe, limit)
    completions = trying.trial(rollouts, online.device_batch_size or online.completions_per_step)
    if recipe.reward_model is not None:
        sampled = trying.traces()
        ranked = trying.ranked(sampled)
        trial, shown = trying.trial_of_pairs(sampled, ranked), trying.shown(sampled, ranked)
    else:
        sampled = trying.measured()
        trial = trying.trial(sampled, 1)
        shown = examples_of(sampled, trying.ranked(sampled), examples) if trying.questions else []
    sizes = len(trying.prompts), len(trying.questions)
    return Preview(
        recipe=recipe,
        examples=[*examples_of(rollouts, trying.by_signal(rollouts), examples), *shown],
        cost=estimate_online_cost(recipe, online, *sizes, completions, trial),
        tried=[rollouts, sampled],
        warnings=[
            *warnings_of(recipe, online, rollouts, engine),
            *warnings_of_answers(recipe, [rollouts, sampled], shown=bool(examples)),
        ],
    )


def _preview_dialogues(trying: Trying, introspection: IntrospectionConfig) -> Preview:
    """Prompts with their first attempts, and questions as they are measured but for their turns."""
    recipe, examples = trying.recipe, trying.examples
    sampling = turn_sampling(recipe.sampling, introspection, introspection.samples[0])
    first = try_prompts(trying.engine, trying.prompts[: examples + TIMED], sampling, recipe, LIMIT)
    measured = trying.measured()
    training = introspection.training
    attempts = trying.trial(first, training.device_batch_size or training.batch_size)
    going_on = _going_on(trying, introspection, first)
    sizes, trials = (len(trying.prompts), len(trying.questions)), (attempts, going_on, trying.trial(measured, 1))
    shown = examples_of(measured, trying.by_signal(measured), examples) if trying.questions else []
    return Preview(
        recipe=recipe,
        examples=[*examples_of(first, trying.by_signal(first), examples), *shown],
        cost=estimate_dialogue_cost(recipe, introspection, *sizes, *trials),
        tried=[first, measured],
        warnings=warnings_of_answers(recipe, [first, measured], shown=bool(examples)),
    )


def _going_on(trying: Trying, introspection: IntrospectionConfig, first: Tried) -> float:
    """The share of dialogues that go on after their first turn: an attempt can be used and is no success."""
    with rewarder(trying.recipe, trying.engine.tokenizer) as rewards:
        best = [
            best_attempt(
                [Attempt(trace, reward, 1) for trace, reward in zip(group, rewards(prompt, group), strict=True)],
                introspection.repetition_limit,
            )
            for prompt, group in zip(first.prompts, first.groups, strict=True)
        ]
    return sum(one is not None and one.reward < introspection.success for one in best) / len(best)


def _questions(recipe: Recipe) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Prompts to learn from, with gold answers where these are learned from or are all there is to grade by, and
    labelled questions."""
    labelled = recipe.evaluation_data
    questions = load_prompts(labelled, with_gold=True) if labelled else []
    if recipe.prompts.path is None and recipe.prompts.preset is None and questions:
        return [], questions
    prompts: Sequence[Prompt] = prompts_to_learn_from(recipe)
    if not recipe.needs_labels and not questions and has_gold(with_defaults(recipe.prompts, evaluation=False)):
        prompts = load_prompts(recipe.prompts, with_gold=True, learned_from=True)
    return prompts, questions
