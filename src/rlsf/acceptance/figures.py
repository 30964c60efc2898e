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


def loop_figures(tried: Sequence[Tried], *, rounds: int, resamples: int, seed: int) -> dict[str, Any]:
    """Figures of one loop of at most ``rounds`` attempts over questions.

    ``accuracy`` of the loop, with its 95 % interval; ``mean_rounds`` and ``mean_tokens`` a question; ``p``, ``a`` and
    ``b`` as measured (``rates_at``), and the accuracy and rounds that the closed form ``predicted`` from them;
    ``calls`` N, the mean rounds rounded up, and ``same_calls``: the accuracy of N independent samples, of which the
    first is taken, the majority of answers, the best by the loop's own score, or any right one (``oracle``: that takes
    the gold answer). ``differences``: the loop less each of these, with paired intervals. Raises ``InputError`` for no
    questions.
    """
    if not tried:
        raise InputError("no questions were tried: give some with gold answers")
    used = [one.retry.used for one in tried]
    calls = math.ceil(sum(used) / len(used))
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
        "mean_tokens": _mean_tokens(tried),
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


def _mean_tokens(tried: Sequence[Tried]) -> float:
    """Tokens that the policy writes for a question, all attempts that the loop makes together."""
    return sum(len(trace.token_ids) for one in tried for trace in one.retry.traces[: one.retry.used]) / len(tried)


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
