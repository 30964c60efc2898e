"""What a run would do, tried on a few questions: rendered prompts, traces, answers, verdicts and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlsf.answers.equivalence import Grader
from rlsf.confidence import get_signal
from rlsf.errors import InputError
from rlsf.models import load_model, load_tokenizer
from rlsf.pipeline.context import prompts_to_learn_from
from rlsf.pipeline.cost import Cost, Trial, estimate_cost, estimate_online_cost, forward_seconds
from rlsf.pipeline.judging import judge_traces
from rlsf.pipeline.preflight import require_a_batch, require_usable
from rlsf.pipeline.ranking import confidences
from rlsf.pipeline.tried import Tried, try_prompts, warnings_of
from rlsf.preferences import rank_prompt
from rlsf.prompts import Prompt, has_gold, load_prompts, with_defaults
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

if TYPE_CHECKING:
    from rlsf.sampling.transformers_engine import TransformersEngine
    from rlsf.training.online_config import OnlineConfig

#: Questions sampled for the estimate of cost, besides those shown.
TIMED = 24
_LIMIT = "sampling.max_new_tokens"


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One question as the model sees it, its traces with confidences, and verdicts where there is a gold answer."""

    prompt: Prompt
    text: str
    token_count: int
    traces: Sequence[Trace]
    confidences: Sequence[float | None]
    verdicts: Sequence[bool | None]


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """The examples, the extrapolated cost, all that was tried, and what would waste a run."""

    recipe: Recipe
    examples: Sequence[Example]
    cost: Cost
    tried: Sequence[Tried]
    warnings: Sequence[str] = ()


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
    engine = TransformersEngine(load_model(recipe.model), tokenizer)
    if recipe.online is not None and prompts:
        return _preview_online(recipe, recipe.online, engine, prompts, questions, examples)
    asked = [*prompts[:examples], *questions[: examples + TIMED]] if questions else prompts[: examples + TIMED]
    tried = try_prompts(engine, asked, recipe.sampling, recipe, _LIMIT)
    # One at a time, for a prompt to learn from and a labelled question may have the same id.
    pairs = sum(
        len(rank_prompt(group, _ranked_by(recipe, engine, prompt, group), recipe.ranking)[0])
        for prompt, group in zip(tried.prompts, tried.groups, strict=True)
    )
    most = 2 * (recipe.training.device_batch_size or recipe.training.batch_size)
    found = _examples(recipe, tried, engine, 2 * examples)
    return Preview(
        recipe=recipe,
        examples=[*found[:examples], *(found[examples:] if prompts and questions else ())],
        cost=estimate_cost(recipe, len(prompts), len(questions), _trial(tried, engine, most, pairs)),
        tried=[tried],
    )


def _preview_online(
    recipe: Recipe,
    online: OnlineConfig,
    engine: TransformersEngine,
    prompts: Sequence[Prompt],
    questions: Sequence[Prompt],
    examples: int,
) -> Preview:
    """Prompts with completions as training draws them, at most a step's, and questions as they are measured."""
    from rlsf.training.online_options import rollout_sampling

    step = max(examples, min(online.prompts_per_step, examples + TIMED))
    rollouts = try_prompts(engine, prompts[:step], rollout_sampling(online), recipe, "online.max_completion_length")
    # Without questions to measure on, the guard's held-out prompts are still sampled as the recipe says.
    asked = questions[: examples + TIMED] or prompts[:examples] or prompts[:1]
    measured = try_prompts(engine, asked, recipe.sampling, recipe, _LIMIT)
    most = online.device_batch_size or online.completions_per_step
    trials = [_trial(tried, engine, most) for tried in (rollouts, measured)]
    return Preview(
        recipe=recipe,
        examples=[
            *_examples(recipe, rollouts, engine, examples),
            *(_examples(recipe, measured, engine, examples) if questions else ()),
        ],
        cost=estimate_online_cost(recipe, online, len(prompts), len(questions), *trials),
        tried=[rollouts, measured],
        warnings=warnings_of(recipe, online, rollouts, engine),
    )


def _trial(tried: Tried, engine: TransformersEngine, most: int, pairs: int = 0) -> Trial:
    """What trying took; ``most`` is how many sequences training reads at once."""
    return Trial(
        prompts=len(tried.prompts),
        tokens=tried.tokens,
        sampling_seconds=tried.seconds,
        pairs=pairs,
        lengths=[len(text) for text in tried.texts],
        forward_seconds=forward_seconds(engine.model, tried.texts, most),
    )


def _examples(recipe: Recipe, tried: Tried, engine: TransformersEngine, count: int) -> list[Example]:
    """The first questions that were tried."""
    with Grader() as grader:
        return [
            Example(
                prompt=prompt,
                text=text.text,
                token_count=len(text.token_ids),
                traces=group,
                confidences=_ranked_by(recipe, engine, prompt, group),
                verdicts=_verdicts(prompt, group, grader),
            )
            for prompt, text, group in zip(
                tried.prompts[:count], tried.rendered[:count], tried.groups[:count], strict=True
            )
        ]


def _ranked_by(
    recipe: Recipe, engine: TransformersEngine, prompt: Prompt, traces: Sequence[Trace]
) -> Sequence[float | None]:
    """The confidences by which traces of a prompt would be ranked: a judge's, where there is one, or the signal's."""
    if recipe.judge is None:
        return confidences(traces, get_signal(recipe.signal), engine.tokenizer)
    judge, seed = recipe.judge, derived_seed(recipe.seed, "judge", 1)
    [judged] = judge_traces(engine.model, engine.tokenizer, [traces], [prompt], judge, render=recipe.render, seed=seed)
    return [judgement.confidence(judge.confidence, judge.probability) for judgement in judged]


def _questions(recipe: Recipe) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to learn from, with gold answers where these are learned from or are all there is to grade by, and
    labelled questions."""
    labelled = recipe.evaluation_data
    questions = load_prompts(labelled, with_gold=True) if labelled else []
    if recipe.prompts.path is None and recipe.prompts.preset is None and questions:
        return [], questions
    prompts = prompts_to_learn_from(recipe)
    if not recipe.needs_labels and not questions and has_gold(with_defaults(recipe.prompts, evaluation=False)):
        prompts = load_prompts(recipe.prompts, with_gold=True, learned_from=True)
    return prompts, questions


def _verdicts(prompt: Prompt, traces: Sequence[Trace], grader: Grader) -> list[bool | None]:
    if prompt.gold is None:
        return [None] * len(traces)
    return [
        trace.answer is not None and bool(grader(trace.answer.text, prompt.gold, prompt.choices)) for trace in traces
    ]
