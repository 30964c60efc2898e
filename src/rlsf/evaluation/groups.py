"""Questions grouped by equal confidence: what every metric of calibration and ranking is computed from.

Grouping makes ties explicit, so that no metric depends on the order of the questions, and resampled questions
(counts instead of copies) need no code of their own: a leading axis holds the resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlsf.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ConfidenceGroups:
    """Counts per distinct confidence, the surest first.

    ``values`` [G] strictly decreasing, in [0, 1]; ``count`` and ``correct`` [..., G], integers >= 0: questions with
    that confidence and those answered correctly. Leading axes are resamples, each of ``total`` questions.
    """

    values: FloatArray
    count: IntArray
    correct: IntArray
    total: int

    @property
    def wrong(self) -> IntArray:
        """Questions answered wrongly, [..., G]."""
        return self.count - self.correct

    @property
    def gap(self) -> FloatArray:
        """Summed (confidence - correct) of each group, [..., G]."""
        return self.count * self.values - self.correct

    def accumulated(self, amount: NDArray, positions: Sequence[float]) -> FloatArray:
        """The part of ``amount`` [..., G] that falls to the k surest questions, [..., K], for positions 0 < k <= total.

        A group that lies across a position is shared in proportion: the expectation over every order of its members.
        """
        end, upto = np.cumsum(self.count, axis=-1), np.cumsum(amount, axis=-1)
        group = np.stack([np.sum(end < position, axis=-1) for position in positions], axis=-1)
        missing = (np.asarray(positions) - np.take_along_axis(end, group, -1)) / np.take_along_axis(
            self.count, group, -1
        )
        return np.take_along_axis(upto, group, -1) + missing * np.take_along_axis(amount, group, -1)


def checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, IntArray]:
    """Confidences as float64 and correctness as 0/1, both [n].

    Raises ``InputError`` for no questions, unequal lengths, a confidence that is NaN or outside [0, 1] (nothing is
    clamped or squashed) and a correctness other than 0 or 1.
    """
    values, outcomes = np.asarray(confidence, np.float64), np.asarray(correct)
    if values.ndim != 1 or values.shape != outcomes.shape:
        raise InputError(
            f"confidence of shape {values.shape} and correct of shape {outcomes.shape}: give one of each a question"
        )
    if not len(values):
        raise InputError("no questions to measure: give at least one confidence and its correctness")
    unusable = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(unusable):
        raise InputError(
            f"confidence {values[unusable[0]]} at position {unusable[0]} is not in [0, 1]"
            f" ({len(unusable)} of {len(values)}): measure confidences, not raw quantities"
        )
    neither = np.flatnonzero((outcomes != 0) & (outcomes != 1))
    if len(neither):
        raise InputError(f"correct is {outcomes[neither[0]]} at position {neither[0]}: give 0 or 1, or False or True")
    return values, outcomes.astype(np.int64)


class Grouping:
    """The order and boundaries of equal confidences, found once and applied to any number of resamples."""

    def __init__(self, confidence: ArrayLike, correct: ArrayLike) -> None:
        values, outcomes = checked(confidence, correct)
        self.order = np.argsort(-values, kind="stable")
        ordered = values[self.order]
        self.starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        self.values = ordered[self.starts]
        self.correct = outcomes[self.order]

    def groups(self, counts: IntArray | None = None) -> ConfidenceGroups:
        """The groups of resamples with ``counts`` [..., n] of each question; without counts, of the questions."""
        if counts is None:
            counts = np.ones(len(self.order), np.int64)
        ordered = counts[..., self.order]
        return ConfidenceGroups(
            self.values,
            np.add.reduceat(ordered, self.starts, axis=-1),
            np.add.reduceat(ordered * self.correct, self.starts, axis=-1),
            len(self.order),
        )


def group_confidences(confidence: ArrayLike, correct: ArrayLike) -> ConfidenceGroups:
    """Questions grouped by equal confidence. Raises as ``checked`` does."""
    return Grouping(confidence, correct).groups()


def harmonic_numbers(total: int) -> FloatArray:
    """H_0 ... H_total, where H_k = 1 + 1/2 + ... + 1/k."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, total + 1))])


def thinned(length: int, limit: int) -> IntArray:
    """At most ``limit`` indices spread evenly over 0 ... length - 1, both ends kept."""
    if length <= limit:
        return np.arange(length)
    return np.round(np.linspace(0, length - 1, limit)).astype(np.int64)
