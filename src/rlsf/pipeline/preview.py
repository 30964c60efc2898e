"""What a run would do, tried on a few questions: rendered prompts, traces, answers, verdicts and the cost."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rlsf.answers.equivalence import Grader
from rlsf.confidence import get_signal
from rlsf.errors import InputError
from rlsf.models import load_model, load_tokenizer, resolve_device
from rlsf.pipeline.answering import find_answers
from rlsf.pipeline.context import stage_seed
from rlsf.pipeline.ranking import confidences
from rlsf.preferences import rank
from rlsf.prompts import Prompt, has_gold, load_prompts, render
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.pool import worker_count
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


@dataclass(frozen=True, slots=True)
class Cost:
    """What the sampling of a whole run would take, extrapolated from a few questions."""

    prompts: int
    questions: int
    traces: int
    tokens: int
    sampling_seconds: float
    workers: int
    pairs: int
    optimiser_steps: int


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
    """Try ``recipe`` on its first questions, in this process; writes nothing."""
    from rlsf.sampling.transformers_engine import TransformersEngine

    if recipe.model.path is None:
        raise InputError("no model: say --model FOLDER_OR_HUB_ID, or set model.path in the recipe file")
    source = recipe.evaluation_data or recipe.prompts
    shown = load_prompts(source, with_gold=has_gold(source))
    prompts = load_prompts(recipe.prompts, with_gold=False) if _given(recipe) else []
    tried = shown[: examples + TIMED]
    tokenizer = load_tokenizer(recipe.model)
    rendered = [render(prompt, tokenizer, recipe.render) for prompt in tried]
    asked = [
        SamplingRequest(prompt.id, text.token_ids, stage_seed(recipe.seed, "check"))
        for prompt, text in zip(tried, rendered, strict=True)
    ]
    engine = TransformersEngine(load_model(recipe.model), tokenizer)
    list(
        engine.sample(asked[:1], recipe.sampling)
    )  # the first call pays for start-up, which is not what sampling costs
    started = time.monotonic()
    groups = list(engine.sample(asked, recipe.sampling))
    seconds = time.monotonic() - started
    traces = find_answers(engine, tokenizer, groups, [prompt.choices for prompt in tried], recipe.answer)
    branches = recipe.sampling.branches
    groups = [traces[start : start + branches] for start in range(0, len(traces), branches)]
    signal = get_signal(recipe.signal)
    measured = [confidences(group, signal, tokenizer) for group in groups]
    texts = {prompt.id: text.text for prompt, text in zip(tried, rendered, strict=True)}
    pairs, _ = rank(groups, measured, recipe.ranking, texts)
    with Grader() as grader:
        found = [
            Example(prompt, text.text, len(text.token_ids), group, values, _verdicts(prompt, group, grader))
            for prompt, text, group, values in zip(tried, rendered, groups, measured, strict=True)
        ]
    cost = _cost(recipe, len(prompts), len(shown) if recipe.evaluation_data else 0, traces, seconds, pairs.num_rows)
    return Preview(
        recipe=recipe,
        examples=found[:examples],
        cost=cost,
        tried=len(traces),
        without_answer=sum(trace.answer is None for trace in traces),
        truncated=sum(trace.truncated for trace in traces),
    )


def _given(recipe: Recipe) -> bool:
    return recipe.prompts.path is not None or recipe.prompts.preset is not None


def _verdicts(prompt: Prompt, traces: Sequence[Trace], grader: Grader) -> list[bool | None]:
    if prompt.gold is None:
        return [None] * len(traces)
    return [
        trace.answer is not None and bool(grader(trace.answer.text, prompt.gold, prompt.choices)) for trace in traces
    ]


def _cost(recipe: Recipe, prompts: int, questions: int, traces: Sequence[Trace], seconds: float, pairs: int) -> Cost:
    tried = max(1, len(traces) // recipe.sampling.branches)
    rounds, training = recipe.training.rounds, recipe.training
    asked = rounds * prompts + 2 * questions
    workers = worker_count(recipe.sampling.workers, resolve_device(recipe.model.device).type)
    all_pairs = round(pairs / tried * prompts)
    steps = training.max_steps or math.ceil(training.epochs * math.ceil(all_pairs / training.batch_size))
    return Cost(
        prompts=prompts,
        questions=questions,
        traces=asked * recipe.sampling.branches,
        tokens=round(sum(len(trace.token_ids) for trace in traces) / tried * asked),
        sampling_seconds=seconds / tried * asked / workers,
        workers=workers,
        pairs=all_pairs,
        optimiser_steps=rounds * steps,
    )
