"""Asking a model: K traces of a question, one answer chosen among them, and how far it is to be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from rlsf.answers.config import AnswerConfig
from rlsf.answers.equivalence import Grader
from rlsf.answers.voting import group_answers
from rlsf.calibration import Calibration
from rlsf.confidence import get_signal
from rlsf.evaluation.modes import NO_CONFIDENCE, choose
from rlsf.models.config import ModelConfig
from rlsf.pipeline.answering import find_answers
from rlsf.pipeline.ranking import confidences, pieces_of
from rlsf.pipeline.rescored import is_rescored, measuring_engine_for
from rlsf.prompts import render
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.pool import engine_for
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


#: How one answer is chosen: evaluation's modes that choose among the traces of one sampling.
AskingMode = Literal["greedy", "cot_decoding", "majority"]
MODES: tuple[AskingMode, ...] = get_args(AskingMode)


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """What a model says to a question.

    ``guess`` is the answer that was chosen, None where none was found. ``measured`` is the confidence of the decoding
    mode, None where there is none; ``confidence`` is the calibrated probability that the guess is right, or, without a
    calibration, ``measured`` again. ``abstained``: it is below what the calibration's threshold asks for. ``reason``
    says why there is no answer. ``votes`` holds each answer with the number of traces that give it, most first.
    """

    prompt: Prompt
    trace: Trace
    pieces: Sequence[str]
    traces: int
    votes: tuple[tuple[str, int], ...]
    guess: str | None
    measured: float | None
    confidence: float | None
    calibrated: bool
    abstained: bool
    reason: str | None

    @property
    def answer(self) -> str | None:
        """The guess, None where the model abstains."""
        return None if self.abstained else self.guess

    def record(self) -> dict[str, Any]:
        """The reply as a JSON object. Confidences are rounded where arithmetic in another order may differ."""
        return {
            "id": self.prompt.id,
            "answer": self.answer,
            "confidence": _rounded(self.confidence),
            "calibrated": self.calibrated,
            "abstained": self.abstained,
            "reason": self.reason,
            "guess": self.guess,
            "measured": _rounded(self.measured),
            "votes": dict(self.votes),
            "traces": self.traces,
            "trace_index": self.trace.index,
            "trace": self.trace.text,
            "tokens": len(self.trace.token_ids),
            "truncated": self.trace.truncated,
        }


@dataclass(frozen=True, slots=True)
class Asking:
    """How questions are asked: what a recipe says of it, a decoding mode, and what its confidences are worth."""

    recipe: Recipe
    mode: AskingMode = "cot_decoding"
    calibration: Calibration | None = None

    @property
    def sampling(self) -> SamplingConfig:
        """CoT-decoding as evaluation samples, whatever the recipe learns from; greedy decoding takes one branch."""
        changes: dict[str, Any] = {"strategy": "cot_decoding", "continuation": "greedy"}
        if self.mode == "greedy":
            changes["branches"] = 1
        return self.recipe.sampling.model_copy(update=changes)

    def task(self, prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase) -> AskingTask:
        """The rendered prompts with all that sampling their traces takes."""
        seed = derived_seed(self.recipe.seed, "ask")
        ids = [render(prompt, tokenizer, self.recipe.render).token_ids for prompt in prompts]
        return AskingTask(
            model=self.recipe.model,
            sampling=self.sampling,
            answer=self.recipe.answer,
            requests=tuple(
                SamplingRequest(prompt.id, tokens, seed) for prompt, tokens in zip(prompts, ids, strict=True)
            ),
            choices=tuple(prompt.choices for prompt in prompts),
            rescored=is_rescored(self.recipe.model, self.recipe),
        )

    def settle(
        self, prompt: Prompt, traces: Sequence[Trace], tokenizer: PreTrainedTokenizerBase, grader: Grader
    ) -> Reply:
        """The reply that the traces of a question come to."""

        def same(one: str, other: str) -> bool | None:
            return grader.equivalent(one, other, prompt.choices, symmetric=True)

        values = confidences(traces, get_signal(self.recipe.signal), tokenizer)
        choice = choose(self.mode, traces, values, same, self.recipe.evaluation.aggregate)
        answers = [trace.answer_text for trace in traces]
        groups = sorted(group_answers(answers, same), key=lambda group: (-len(group), group[0]))
        guess = choice.trace.answer_text
        measured = None if choice.failure else float(choice.confidence)
        confidence, abstained, why = self._trust(guess, measured)
        return Reply(
            prompt=prompt,
            trace=choice.trace,
            pieces=pieces_of(choice.trace, tokenizer),
            traces=len(traces),
            votes=tuple((str(answers[group[0]]), len(group)) for group in groups),
            guess=guess,
            measured=measured,
            confidence=confidence,
            calibrated=self.calibration is not None and guess is not None,
            abstained=abstained,
            reason=choice.failure if guess is None else why,
        )

    def _trust(self, guess: str | None, measured: float | None) -> tuple[float | None, bool, str | None]:
        """The confidence to be shown, whether to abstain, and why the one is missing or the other is done.

        An answer for which the signal has no value is never given by a calibration, and right with probability 0.
        """
        made, missing = self.calibration, NO_CONFIDENCE if measured is None else None
        if guess is None or made is None:
            return measured, False, missing
        found, given = made.of_questions(measured or 0.0, measured is not None)
        least = made.threshold.value
        if given:
            return float(found), False, None
        if least is None:
            return float(found), True, f"no confidence is enough: {made.threshold.reason}"
        return float(found), True, missing or f"measured confidence {measured:.4f} is below {least:.4f}"


@dataclass(frozen=True, slots=True)
class AskingTask:
    """What a process needs to sample the traces of some questions."""

    model: ModelConfig
    sampling: SamplingConfig
    answer: AnswerConfig
    requests: tuple[SamplingRequest, ...]
    choices: tuple[tuple[str, ...], ...]
    rescored: bool


def sample_traces(task: AskingTask) -> list[list[Trace]]:
    """The traces of each question, with their answers; runs in a worker process, or in this one."""
    engine = engine_for(task.model)
    groups = list(measuring_engine_for(task.model, rescored=task.rescored).sample(task.requests, task.sampling))
    traces = iter(find_answers(engine, engine.tokenizer, groups, task.choices, task.answer))
    return [[next(traces) for _ in group] for group in groups]


def ask(asking: Asking, prompt: Prompt) -> Reply:
    """One question, in this process: no worker is started for it. Raises as ``Engine.sample`` does."""
    get_signal(asking.recipe.signal)
    tokenizer = engine_for(asking.recipe.model).tokenizer
    with Grader() as grader:
        [traces] = sample_traces(asking.task([prompt], tokenizer))
        return asking.settle(prompt, traces, tokenizer, grader)


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 6)
