"""What a loop of accepting and trying again is worth on labelled questions, beside other uses of as many calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsf.acceptance.closed_form import Rates, loop_accuracy, mean_rounds, rates_at
from rlsf.errors import InputError
from rlsf.evaluation.bootstrap import bootstrap, percentile_interval
from rlsf.evaluation.modes import Retry, Verdicts, majority
from rlsf.traces import Trace


@dataclass(frozen=True, slots=True)
class Tried:
    """One question: the loop's attempts, and independent samples, as many as rounds, with their scores.

    ``scores`` are the loop's own of the samples, ``confidences`` the signal's, by which ties of votes are broken.
    """

    verdicts: Verdicts
    retry: Retry
    samples: Sequence[Trace]
    scores: Sequence[float]
    confidences: Sequence[float | None]

    def right(self, trace: Trace) -> bool:
        """Whether a trace's answer is the gold one; no answer and an undecided grade are wrong."""
        return trace.answer is not None and bool(self.verdicts.of(trace.answer.text))

    @property
    def answered(self) -> bool:
        """Whether the loop gives an answer, right or wrong, instead of abstaining."""
        return self.retry.accepted or not self.retry.abstain

    def loop(self) -> bool:
        """Whether the loop's answer is right."""
        return self.answered and self.right(self.retry.traces[self.retry.used - 1])

    def made(self) -> Sequence[Trace]:
        """The attempts that the loop makes."""
        return self.retry.traces[: self.retry.used]

    def judged_tokens(self, traces: Sequence[Trace]) -> int:
        """Tokens of the question and an attempt, for every one that there is an answer in to be judged."""
        question = len(self.samples[0].prompt_token_ids)
        return sum(question + len(trace.token_ids) for trace in traces if trace.answer is not None)

    def others(self, calls: int) -> dict[str, bool]:
        """Whether other uses of ``calls`` independent samples are right: the first alone, and the oracle of any."""
        traces = self.samples[:calls]
        best = max(range(calls), key=lambda place: (self.scores[place], -place))
        vote = majority(traces, self.confidences[:calls], self.verdicts.same)
        return {
            "first": self.right(traces[0]),
            "majority": self.right(vote.trace),
            "best": self.right(traces[best]),
            "oracle": any(map(self.right, traces)),
        }


def loop_figures(
    tried: Sequence[Tried], *, rounds: int, resamples: int, seed: int, model_reads: bool = False
) -> dict[str, Any]:
    """Figures of one loop of at most ``rounds`` attempts over questions; ``model_reads``: whether a model scores them.

    ``accuracy`` of the loop, with its 95 % interval; ``mean_rounds`` and ``mean_tokens`` a question; ``p``, ``a`` and
    ``b`` as measured (``rates_at``), and the accuracy and rounds that the closed form ``predicted`` from them;
    ``calls`` N (``_calls``), and ``same_calls``: the accuracy of N independent samples, of which the first is taken,
    the majority of answers, the best by the loop's own score, or any right one (``oracle``, which takes the gold
    answer); ``cost`` (``_cost``) of the loop and of these. ``differences``: the loop less each of these, with paired
    intervals. Raises ``InputError`` for no questions.
    """
    if not tried:
        raise InputError("no questions were tried: give some with gold answers")
    used = [one.retry.used for one in tried]
    calls = _calls(tried)
    columns = {"loop": [one.loop() for one in tried]}
    others = [one.others(calls) for one in tried]
    columns |= {name: [one[name] for one in others] for name in others[0]}
    values = {name: np.array(column, np.float64) for name, column in columns.items()}
    spread = bootstrap(
        lambda counts: {name: counts @ column / len(tried) for name, column in values.items()},
        len(tried),
        resamples,
        seed,
    )
    answered = [one for one in tried if one.answered]
    return {
        "threshold": tried[0].retry.threshold,
        "accuracy": float(values["loop"].mean()),
        "interval": percentile_interval(spread["loop"]),
        "mean_rounds": sum(used) / len(used),
        "mean_tokens": _written([one.made() for one in tried]),
        "cost": {
            "loop": _cost(tried, [one.made() for one in tried], model_reads),
            "same_calls": _cost(tried, [one.samples[:calls] for one in tried], model_reads),
        },
        "answered": len(answered) / len(tried),
        "accuracy_answered": sum(one.loop() for one in answered) / len(answered) if answered else None,
        **_closed_form(tried, rounds),
        "calls": calls,
        "same_calls": {name: float(values[name].mean()) for name in others[0]},
        "differences": {
            name: {
                "value": float((values["loop"] - values[name]).mean()),
                "interval": percentile_interval(spread["loop"] - spread[name]),
            }
            for name in ("first", "majority", "best")
        },
    }


def _calls(tried: Sequence[Tried]) -> int:
    """The least number of samples a question that is no cheaper than the loop, in calls and in tokens that are written.

    Where all samples that there are write fewer tokens than the loop, it is their number.
    """
    loop = _written([one.made() for one in tried])
    least, most = math.ceil(sum(one.retry.used for one in tried) / len(tried)), len(tried[0].samples)
    enough = (n for n in range(least, most) if _written([one.samples[:n] for one in tried]) >= loop)
    return next(enough, most)


def _written(attempts: Sequence[Sequence[Trace]]) -> float:
    """Tokens that the policy writes for a question, all of its attempts together, rejected ones too."""
    return sum(len(trace.token_ids) for traces in attempts for trace in traces) / len(attempts)


def _cost(tried: Sequence[Tried], attempts: Sequence[Sequence[Trace]], model_reads: bool) -> dict[str, float]:
    """Means a question over all ``attempts``, the rejected ones too: ``calls`` of the policy, tokens that it has
    ``written``, tokens of prompts that it has ``read``, one prompt each call, and tokens that an acceptance model has
    ``judged``, where one reads the attempts.
    """
    count = len(tried)
    return {
        "calls": sum(map(len, attempts)) / count,
        "written": _written(attempts),
        "read": sum(len(trace.prompt_token_ids) for traces in attempts for trace in traces) / count,
        "judged": sum(one.judged_tokens(made) for one, made in zip(tried, attempts, strict=True)) / count
        if model_reads
        else 0.0,
    }


def _closed_form(tried: Sequence[Tried], rounds: int) -> dict[str, Any]:
    """Measured rates, over every attempt that is there, and what independent rounds with these would be worth."""
    attempts = [
        (score, one.right(trace))
        for one in tried
        for trace, score in zip(one.retry.traces, one.retry.scores, strict=True)
    ]
    right = [one for _, one in attempts]
    first_right = sum(one.right(one.retry.traces[0]) for one in tried) / len(tried)
    if len(set(right)) < 2:  # rates of acceptance are undefined
        return {"p": first_right, "a": None, "b": None, "precision": None, "predicted": None, "predicted_rounds": None}
    retry = tried[0].retry
    rates = rates_at([score for score, _ in attempts], right, retry.threshold, first_right)
    return {
        "p": rates.right,
        "a": rates.true,
        "b": rates.false,
        "precision": rates.precision,
        "predicted": _predicted(rates, rounds, abstain=retry.abstain),
        "predicted_rounds": mean_rounds(rates, rounds),
    }


def _predicted(rates: Rates, rounds: int, *, abstain: bool) -> float:
    """Acc_T; where the loop abstains, an attempt counts only when it is accepted, in the last round as well."""
    if abstain:
        return rates.right * rates.true * mean_rounds(rates, rounds)
    return loop_accuracy(rates, rounds)
