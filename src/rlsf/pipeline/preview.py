"""What a run would do, tried on a few questions: rendered prompts, traces, answers, verdicts and the cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rlsf.answers.equivalence import Grader
from rlsf.confidence import get_signal
from rlsf.models import load_model, load_tokenizer
from rlsf.pipeline.answering import find_answers
from rlsf.pipeline.cost import Cost, Trial, estimate_cost, forward_seconds
from rlsf.pipeline.preflight import require_usable
from rlsf.pipeline.ranking import confidences
from rlsf.preferences import rank_prompt
from rlsf.prompts import Prompt, has_gold, load_prompts, render, with_defaults
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

#: Questions sampled for the estimate of cost, besides those shown.
TIMED = 24


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
    """The examples, the extrapolated cost, and counts over all traces that were tried."""

    recipe: Recipe
    examples: Sequence[Example]
    cost: Cost
    tried: int
    without_answer: int
    truncated: int


def preview(recipe: Recipe, examples: int) -> Preview:
    """Try ``recipe`` on its first questions, in this process; writes nothing.

    Looks at all of its questions first, and raises ``InputError`` for what a run would refuse.
    """
    from rlsf.sampling.transformers_engine import TransformersEngine

    tokenizer = load_tokenizer(recipe.model)
    prompts, questions = _questions(recipe)
    require_usable(recipe, [*prompts, *questions], tokenizer)
    tried = [*prompts[:examples], *questions[: examples + TIMED]] if questions else prompts[: examples + TIMED]
    rendered = [render(prompt, tokenizer, recipe.render) for prompt in tried]
    asked = [
        SamplingRequest(prompt.id, text.token_ids, derived_seed(recipe.seed, "check"))
        for prompt, text in zip(tried, rendered, strict=True)
    ]
    model = load_model(recipe.model)
    engine = TransformersEngine(model, tokenizer)
    list(engine.sample(asked[:1], recipe.sampling))  # pays for start-up, which is not what sampling costs
    started = time.monotonic()
    groups = list(engine.sample(asked, recipe.sampling))
    seconds = time.monotonic() - started
    traces = find_answers(engine, tokenizer, groups, [prompt.choices for prompt in tried], recipe.answer)
    branches = recipe.sampling.branches
    groups = [traces[start : start + branches] for start in range(0, len(traces), branches)]
    signal = get_signal(recipe.signal)
    measured = [confidences(group, signal, tokenizer) for group in groups]
    # One at a time, for a prompt to learn from and a labelled question may have the same id.
    pairs = sum(len(rank_prompt(*group, recipe.ranking)[0]) for group in zip(groups, measured, strict=True))
    with Grader() as grader:
        found = [
            Example(prompt, text.text, len(text.token_ids), group, values, _verdicts(prompt, group, grader))
            for prompt, text, group, values in zip(tried, rendered, groups, measured, strict=True)
        ]
    texts = [(*trace.prompt_token_ids, *trace.token_ids) for trace in traces]
    trial = Trial(
        prompts=len(tried),
        tokens=sum(len(trace.token_ids) for trace in traces),
        sampling_seconds=seconds,
        pairs=pairs,
        lengths=[len(text) for text in texts],
        forward_seconds=forward_seconds(
            model, texts, 2 * (recipe.training.device_batch_size or recipe.training.batch_size)
        ),
    )
    return Preview(
        recipe=recipe,
        examples=[*found[:examples], *(found[examples : 2 * examples] if prompts and questions else ())],
        cost=estimate_cost(recipe, len(prompts), len(questions), trial),
        tried=len(traces),
        without_answer=sum(trace.answer is None for trace in traces),
        truncated=sum(trace.truncated for trace in traces),
    )


def _questions(recipe: Recipe) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to learn from, with gold answers only where there is nothing else to grade, and labelled questions."""
    labelled = recipe.evaluation_data
    questions = load_prompts(labelled, with_gold=True) if labelled else []
    if recipe.prompts.path is None and recipe.prompts.preset is None and questions:
        return [], questions
    learnt_from = with_defaults(recipe.prompts, evaluation=False)
    prompts = load_prompts(learnt_from, with_gold=False)
    if not questions and has_gold(learnt_from):
        prompts = load_prompts(learnt_from, with_gold=True)
    return prompts, questions


def _verdicts(prompt: Prompt, traces: Sequence[Trace], grader: Grader) -> list[bool | None]:
    if prompt.gold is None:
        return [None] * len(traces)
    return [
        trace.answer is not None and bool(grader(trace.answer.text, prompt.gold, prompt.choices)) for trace in traces
    ]
