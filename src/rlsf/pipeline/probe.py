"""The label-free probe of a policy: does it still give the answers of which its earlier self was surest?"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rlsf.confidence import get_signal
from rlsf.evaluation import agreement
from rlsf.files import digest
from rlsf.pipeline.answering import CountingEngine, find_answers
from rlsf.pipeline.context import Run
from rlsf.pipeline.ranking import confidences
from rlsf.pipeline.sampling import requests
from rlsf.prompts.prompt import Prompt
from rlsf.traces import Trace
from rlsf.training.config import SelectionConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Probe = Callable[["PreTrainedModel", int], Mapping[str, float]]
#: From a prompt and the answer given to it to the next turn of the dialogue.
FollowUp = Callable[[Prompt, str], Prompt]


def held_out(run: Run, prompt_ids: Iterable[str]) -> list[str]:
    """Prompts to keep out of training, for the probe.

    Chosen by the digest of their ids, so that the choice depends on neither order nor resume.
    """
    numbers = itertools.count()
    keyed = ((digest([run.recipe.seed, prompt_id]), next(numbers), prompt_id) for prompt_id in prompt_ids)
    order = [prompt_id for _, _, prompt_id in heapq.nsmallest(run.recipe.selection.prompts, keyed)]
    return order[: held_out_count(run.recipe.selection, next(numbers))]


def held_out_count(selection: SelectionConfig, prompts: int) -> int:
    """How many of so many prompts are kept out: as many as the selection asks for, at most a fifth."""
    return min(selection.prompts, prompts // 5) if selection.enabled else 0


def surest_answers(answered: Iterable[tuple[str, str | None, float | None]]) -> dict[str, str]:
    """For each prompt the answer with the highest confidence, of (prompt id, answer, confidence); ties to the first."""
    best: dict[str, tuple[float, str]] = {}
    for prompt_id, answer, confidence in answered:
        if answer is None or confidence is None:
            continue
        known = best.get(prompt_id)
        if known is None or confidence > known[0]:
            best[prompt_id] = (confidence, answer)
    return {prompt_id: answer for prompt_id, (_, answer) in best.items()}


def surest_of_traces(run: Run, traces_by_prompt: Iterable[Sequence[Trace]], signal: str) -> dict[str, str]:
    """The same of sampled traces, by the confidence signal of that name."""
    measure = get_signal(signal)
    return surest_answers(
        (trace.prompt_id, trace.answer_text, confidence)
        for traces in traces_by_prompt
        for trace, confidence in zip(traces, confidences(traces, measure, run.tokenizer), strict=True)
    )


def agreement_probe(run: Run, targets: Mapping[str, str], follow_up: FollowUp | None = None) -> Probe:
    """Share of held-out prompts whose greedy answer is the one the earlier policy was surest of, and vital signs.

    With ``follow_up`` two turns are asked for, as at inference, where they vote: ``agreement`` is then the mean of
    ``agreement_first`` and ``agreement_second``, and the rest is measured on the second turn.
    """
    from rlsf.sampling.transformers_engine import TransformersEngine
    from rlsf.training.observer import WRITTEN
    from rlsf.training.vital_signs import vital_signs

    prompts = [prompt for prompt in run.prompts if prompt.id in targets]
    wanted = [targets[prompt.id] for prompt in prompts]
    greedy = run.recipe.sampling.model_copy(
        update={"strategy": "cot_decoding", "branches": 1, "continuation": "greedy"}
    )
    choices = [prompt.choices for prompt in prompts]
    signal = get_signal(run.recipe.signal)

    def answered(engine: CountingEngine, asked: Sequence[Prompt]) -> tuple[list[Trace], list[str | None]]:
        sampled = list(engine.sample(list(requests(run, asked, run.recipe.seed)), greedy))
        traces = find_answers(engine, run.tokenizer, sampled, choices, run.recipe.answer)
        return traces, [trace.answer_text for trace in traces]

    def probe(model: PreTrainedModel, step: int) -> Mapping[str, float]:
        engine = CountingEngine(TransformersEngine(model, run.tokenizer))
        traces, answers = answered(engine, prompts)
        agreed = {"agreement": agreement(answers, wanted)}
        if follow_up is not None:
            second = [follow_up(prompt, trace.text) for prompt, trace in zip(prompts, traces, strict=True)]
            traces, answers = answered(engine, second)
            turns = agreed["agreement"], agreement(answers, wanted)
            agreed = {"agreement": sum(turns) / 2, "agreement_first": turns[0], "agreement_second": turns[1]}
        return {
            **agreed,
            "confidence": _mean(confidences(traces, signal, run.tokenizer)),
            "prompts": len(prompts),
            **vital_signs(traces, answers),
            WRITTEN: engine.tokens,
        }

    return probe


def _mean(values: Sequence[float | None]) -> float:
    return sum(value or 0.0 for value in values) / len(values)
