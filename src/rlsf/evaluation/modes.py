"""From the K traces of one question to one outcome per decoding mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rlsf.answers import voting
from rlsf.answers.verbalised import without_stated_confidence
from rlsf.answers.voting import SameAnswer, Vote
from rlsf.errors import InputError
from rlsf.evaluation.config import EvaluationConfig, Mode
from rlsf.evaluation.format_free import last_reading, same_but_for_format
from rlsf.evaluation.outcomes import Outcome
from rlsf.prompts.prompt import Prompt
from rlsf.traces import Trace

#: (answer, gold, texts of the options) -> equivalent, or None where it could not be decided in time.
Grade = Callable[[str, str, Sequence[str]], bool | None]

NO_CONFIDENCE = "the signal has no value for this trace"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a decoding mode settles on: a trace, and the confidence given to its answer."""

    trace: Trace
    confidence: float
    failure: str | None = None


def _single(trace: Trace, confidence: float | None) -> Choice:
    if trace.answer is None:
        return Choice(trace, 0.0, trace.failure or "no answer found")
    if confidence is None:
        return Choice(trace, 0.0, NO_CONFIDENCE)
    return Choice(trace, confidence)


def greedy(traces: Sequence[Trace], measured: Sequence[float | None]) -> Choice:
    """The greedy trace: the branch of the likeliest first token, greedily continued, is greedy decoding.

    Raises ``InputError`` where no trace is one.
    """
    for trace, confidence in zip(traces, measured, strict=True):
        if trace.strategy == "greedy" or (trace.strategy == "cot_decoding" and trace.index == 0):
            return _single(trace, confidence)
    raise InputError(
        f"question {traces[0].prompt_id!r} has no greedy trace: give CoT-decoding branches, greedily continued, or"
        " leave greedy out of evaluation.modes"
    )


def surest(traces: Sequence[Trace], measured: Sequence[float | None]) -> Choice:
    """CoT-decoding (arXiv 2402.10200, section 2.3): the answered trace with the largest confidence, ties to the first.

    Where no trace has an answer, the first one stands for the question.
    """
    keys = [
        (trace.answer is not None, confidence is not None, confidence or 0.0)
        for trace, confidence in zip(traces, measured, strict=True)
    ]
    best = keys.index(max(keys)) if any(answered for answered, _, _ in keys) else 0
    return _single(traces[best], measured[best])


def _elected(
    traces: Sequence[Trace], measured: Sequence[float | None], same: SameAnswer, elect: Callable[..., Vote | None]
) -> Choice:
    vote = elect([trace.answer_text for trace in traces], measured, same)
    if vote is None:
        return surest(traces, measured)
    return Choice(traces[vote.index], min(1.0, vote.weight / len(traces)))


def majority(traces: Sequence[Trace], measured: Sequence[float | None], same: SameAnswer) -> Choice:
    """The most frequent answer; its confidence is the share of all K traces that gave it, or an equivalent one.

    Ties go to the larger summed confidence, then to the earlier trace. The trace shown is the surest of the winners.
    """
    return _elected(traces, measured, same, voting.majority)


def aggregated(traces: Sequence[Trace], measured: Sequence[float | None], same: SameAnswer) -> Choice:
    """The answer with the largest summed confidence: CoT-decoding's weighted aggregation (arXiv 2402.10200, sec. 2.3).

    Its confidence is that sum over K: the mean over all traces, 0 for those that answer something else or nothing.
    """
    return _elected(traces, measured, same, voting.aggregate)


@dataclass(frozen=True, slots=True)
class Turns:
    """The traces of a dialogue, turn by turn, and the confidence of each. ``weighted``: votes count by confidence."""

    traces: Sequence[Trace]
    measured: Sequence[float | None]
    weighted: bool = False

    def choose(self, same: SameAnswer) -> Choice:
        """What the turns settle on: sequential voting of arXiv 2407.18219 (m1@tk), or the vote by confidence."""
        return (aggregated if self.weighted else majority)(self.traces, self.measured, same)


def accepts(score: float, threshold: float) -> bool:
    """Whether a score is accepted: 0, as that of an attempt without an answer, never is, whatever the threshold."""
    return score >= threshold and score > 0


@dataclass(frozen=True, slots=True)
class Retry:
    """Attempts at a question, in order, and the score of each in [0, 1]; the first that is accepted stays.

    Attempts after that one may be there, to compare with: the loop never made them.
    """

    traces: Sequence[Trace]
    scores: Sequence[float]
    threshold: float
    abstain: bool = False

    @property
    def used(self) -> int:
        """How many attempts the loop makes: up to the first that is accepted, else all."""
        return next((n for n, score in enumerate(self.scores, 1) if accepts(score, self.threshold)), len(self.scores))

    @property
    def accepted(self) -> bool:
        """Whether the last attempt that the loop makes is accepted."""
        return accepts(self.scores[self.used - 1], self.threshold)

    def choose(self) -> Choice:
        """The last attempt that the loop makes, with its score for confidence; no answer where it abstains."""
        trace = self.traces[self.used - 1]
        if self.abstain and not self.accepted:
            # What was rejected is no answer, in whatever format it stands in the text.
            silent = replace(trace, text="", answer=None)
            return Choice(silent, 0.0, f"none of {len(self.scores)} attempts was accepted")
        return _single(trace, self.scores[self.used - 1])


def choose(
    mode: Mode,
    traces: Sequence[Trace],
    measured: Sequence[float | None],
    same: SameAnswer,
    aggregate: bool = False,
    turns: Turns | None = None,
    retry: Retry | None = None,
) -> Choice:
    """What ``mode`` settles on, given the K traces of a question and the confidence of each (None: undefined).

    ``same`` decides which answers are one in a vote; ``aggregate`` as in ``EvaluationConfig``; ``turns`` are what the
    mode of that name votes over, ``retry`` the attempts of the other. Raises ``InputError`` where these are missing.
    """
    if mode == "turns":
        if turns is None:
            raise InputError(f"question {traces[0].prompt_id!r} has no turns: leave turns out of evaluation.modes")
        return turns.choose(same)
    if mode == "retry":
        if retry is None:
            raise InputError(f"question {traces[0].prompt_id!r} has no attempts: leave retry out of evaluation.modes")
        return retry.choose()
    if mode == "greedy":
        return greedy(traces, measured)
    if mode == "majority":
        return majority(traces, measured, same)
    return aggregated(traces, measured, same) if aggregate else surest(traces, measured)


class Verdicts:
    """Verdicts on the answers to one question; each distinct answer is graded once."""

    def __init__(self, gold: str, choices: Sequence[str], grade: Grade) -> None:
        self.gold, self.choices, self.grade = gold, choices, grade
        self.known: dict[str, bool | None] = {}

    def of(self, answer: str) -> bool | None:
        """Whether ``answer`` is equivalent to the gold answer, None where that is undecided."""
        if answer not in self.known:
            self.known[answer] = self.grade(answer, self.gold, self.choices)
        return self.known[answer]

    def same(self, one: str, other: str) -> bool | None:
        """Whether two answers of the model are equivalent in either order: graders need not be symmetric."""
        return self.grade(one, other, self.choices) or self.grade(other, one, self.choices)

    def format_free(self, text: str, answer: str | None) -> bool:
        """Whether a completion says the gold answer in whatever format."""
        if answer is not None and same_but_for_format(answer, self.gold):
            return True
        reading = last_reading(without_stated_confidence(text), self.gold, self.choices)
        return reading is not None and bool(self.of(reading))


def judge_question(
    question: Prompt,
    traces: Sequence[Trace],
    measured: Sequence[float | None],
    config: EvaluationConfig,
    grade: Grade,
    turns: Turns | None = None,
    retry: Retry | None = None,
) -> list[Outcome]:
    """One outcome per mode of ``config``, in its order; ``turns`` and ``retry`` are for the modes of these names.

    No answer is wrong with confidence 0; an answer for which the signal has no value has confidence 0 and
    ``NO_CONFIDENCE`` as its failure; an undecided grade (None) is wrong and marked as not graded. Raises
    ``InputError`` for a question without a gold answer or without traces.
    """
    if question.gold is None:
        raise InputError(f"question {question.id!r} has no gold answer: evaluation needs one for every question")
    if not traces or len(traces) != len(measured):
        raise InputError(
            f"question {question.id!r} has {len(traces)} traces and {len(measured)} confidences: sample it again"
        )
    verdict = Verdicts(question.gold, question.choices, grade)
    outcomes = []
    for mode in config.modes:
        choice = choose(mode, traces, measured, verdict.same, config.aggregate, turns, retry)
        trace = choice.trace
        answer = trace.answer_text
        correct = False if answer is None else verdict.of(answer)
        outcomes.append(
            Outcome(
                prompt_id=question.id,
                mode=mode,
                trace_index=trace.index,
                answer=answer,
                confidence=float(choice.confidence),
                correct=bool(correct),
                correct_flexible=bool(correct) or verdict.format_free(trace.text, answer),
                graded=correct is not None,
                tokens=len(trace.token_ids),
                truncated=trace.truncated,
                failure=choice.failure,
            )
        )
    return outcomes
