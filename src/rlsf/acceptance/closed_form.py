"""What a loop of accepting and trying again is worth, were its rounds independent, and the threshold that is best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rlsf.errors import InputError
from rlsf.evaluation.modes import accepts


@dataclass(frozen=True, slots=True)
class Rates:
    """What decides a loop: ``right`` p = P(right), ``true`` a = P(accept | right), ``false`` b = P(accept | wrong)."""

    right: float
    true: float
    false: float

    def __post_init__(self) -> None:
        for name, value in (("p", self.right), ("a", self.true), ("b", self.false)):
            if not 0 <= value <= 1:
                raise InputError(f"{name}={value} is no probability: give a number in [0, 1]")

    @property
    def accepted(self) -> float:
        """s = p a + (1 - p) b: how often an attempt is accepted."""
        return self.right * self.true + (1 - self.right) * self.false

    @property
    def precision(self) -> float | None:
        """p a / s: how often an accepted attempt is right, and the accuracy of endless rounds; None for s = 0."""
        return self.right * self.true / self.accepted if self.accepted else None


def loop_accuracy(rates: Rates, rounds: int) -> float:
    """How often the loop is right, at most ``rounds`` T independent attempts, the last one returned as it is.

    Acc_T = p a sum_{k=1}^{T-1} (1 - s)^(k-1) + (1 - s)^(T-1) p. Acc_1 = p; above p for T > 1 exactly where a > b (and
    p is neither 0 nor 1); the limit is the precision. Raises ``InputError`` for no rounds.
    """
    _require_rounds(rounds)
    rejected = 1 - rates.accepted
    before_the_last = math.fsum(rejected**k for k in range(rounds - 1))
    return rates.right * rates.true * before_the_last + rejected ** (rounds - 1) * rates.right


def mean_rounds(rates: Rates, rounds: int) -> float:
    """Attempts a question takes on average: sum_{k=0}^{T-1} (1 - s)^k."""
    _require_rounds(rounds)
    return math.fsum((1 - rates.accepted) ** k for k in range(rounds))


def require_both_kinds(right: Sequence[bool]) -> None:
    """Raise ``InputError`` where all attempts are right, or all wrong: rates of acceptance are then undefined."""
    true = sum(right)
    if true in (0, len(right)):
        raise InputError(
            f"of {len(right)} attempts kept out {true} are right and {len(right) - true} wrong: rates of acceptance"
            " need some of each; give more prompts, easier or harder ones, or raise acceptance.held_out"
        )


def rates_at(scores: Sequence[float], right: Sequence[bool], threshold: float, first_right: float) -> Rates:
    """Rates of acceptance of scored attempts; p is ``first_right``, the share of first attempts that are right.

    Later attempts of records are made at the harder questions only, so that they say nothing about p. Raises
    ``InputError`` where all attempts are right, or all wrong.
    """
    require_both_kinds(right)
    of_right = [score for score, one in zip(scores, right, strict=True) if one]
    of_wrong = [score for score, one in zip(scores, right, strict=True) if not one]
    return Rates(
        first_right,
        sum(accepts(score, threshold) for score in of_right) / len(of_right),
        sum(accepts(score, threshold) for score in of_wrong) / len(of_wrong),
    )


def best_threshold(scores: Sequence[float], right: Sequence[bool], first_right: float, rounds: int) -> float:
    """The threshold, halfway between two scores or 0, whose Acc_T is largest; among equals the one of fewest rounds.

    0 accepts whatever scores above 0: that is what is left where scores do not tell right from wrong. Raises as
    ``rates_at``.
    """
    candidates = [0.0, *((low + high) / 2 for low, high in pairwise(sorted(set(scores))))]

    def worth(threshold: float) -> tuple[float, float]:
        rates = rates_at(scores, right, threshold, first_right)
        # Equal but for rounding is equal.
        return round(loop_accuracy(rates, rounds), 12), -mean_rounds(rates, rounds)

    return max(candidates, key=worth)


def _require_rounds(rounds: int) -> None:
    if rounds < 1:
        raise InputError(f"rounds={rounds}: a loop makes at least one attempt")
