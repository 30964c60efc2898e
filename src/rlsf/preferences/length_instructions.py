"""Length limits that a response keeps or breaks: drawn around its own length, judged by the same count of words."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from rlsf.errors import InputError
from rlsf.preferences.conditioning_config import LengthConditioningConfig, Range

Kind = Literal["at_most", "at_least"]


def word_count(text: str) -> int:
    """Runs of characters between white space: the one unit of length, in what is built and in what is measured."""
    return len(text.split())


@dataclass(frozen=True, slots=True)
class LengthLimit:
    """At most, or at least, so many words."""

    kind: Kind
    words: int

    def kept_by(self, words: int) -> bool:
        """Whether a response of so many words keeps it."""
        return words <= self.words if self.kind == "at_most" else words >= self.words

    def asked_of(self, question: str, config: LengthConditioningConfig) -> str:
        """The question with the limit, in the configured wording."""
        wording = config.at_most if self.kind == "at_most" else config.at_least
        before, after = wording.split("{question}")
        # No str.format of the question: it may hold braces of its own.
        return before.replace("{words}", str(self.words)) + question + after.replace("{words}", str(self.words))


def draw_limit(words: int, config: LengthConditioningConfig, numbers: random.Random, *, kept: bool) -> LengthLimit:
    """A limit that a response of ``words`` words keeps, or breaks.

    Upper or lower with the configured chances, then uniform over the whole numbers of the range, n = ``words``: broken
    are at most [0.5 n, 0.9 n] and at least [1.1 n, 1.5 n], kept the other way round. Where a short response leaves no
    whole number between the bounds, the nearest on the right side of n is taken.

    Raises ``InputError`` for fewer than 2 words, which break no upper limit.
    """
    _require_breakable(words)
    kind: Kind = "at_most" if numbers.random() < config.upper_share else "at_least"
    if (kind == "at_most") != kept:
        return LengthLimit(kind, _number_below(words, config.below, numbers))
    return LengthLimit(kind, _number_above(words, config.above, numbers))


def limits_around(words: int, config: LengthConditioningConfig, numbers: random.Random) -> tuple[LengthLimit, ...]:
    """Both kinds of limit at a number below ``words`` and at one above: a response of so many keeps two of the four.

    Neither the number alone nor the kind alone says which. The ranges are those of ``draw_limit``; raises
    ``InputError`` as it does.
    """
    _require_breakable(words)
    drawn = _number_below(words, config.below, numbers), _number_above(words, config.above, numbers)
    kinds: tuple[Kind, ...] = ("at_most", "at_least")
    return tuple(LengthLimit(kind, number) for kind in kinds for number in drawn)


def limits_between(shorter: int, longer: int) -> tuple[LengthLimit, LengthLimit]:
    """An upper limit that the shorter of two responses keeps alone, and a lower one that the longer keeps alone.

    Both lie half way between the two lengths. Raises ``InputError`` unless ``shorter < longer``.
    """
    if not shorter < longer:
        raise InputError(f"no limit parts responses of {shorter} and {longer} words: give the shorter one first")
    return LengthLimit("at_most", (shorter + longer - 1) // 2), LengthLimit("at_least", (shorter + longer + 1) // 2)


def _require_breakable(words: int) -> None:
    if words < 2:
        raise InputError(
            f"a response of {words} words breaks no upper limit: set conditioning.minimum_words to 2 or more"
        )


def _number_below(words: int, shares: Range, numbers: random.Random) -> int:
    low, high = _whole_numbers(words, shares)
    high = max(1, min(high, words - 1))
    return numbers.randint(min(low, high), high)


def _number_above(words: int, shares: Range, numbers: random.Random) -> int:
    low, high = _whole_numbers(words, shares)
    low = max(low, words + 1)
    return numbers.randint(low, max(low, high))


def _whole_numbers(words: int, shares: Range) -> tuple[int, int]:
    """The least and the greatest whole number between two shares of ``words``."""
    # Rounded first: 1.1 x 10 is a little more than 11 in binary.
    return math.ceil(round(shares[0] * words, 6)), math.floor(round(shares[1] * words, 6))
