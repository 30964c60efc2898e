"""Whether two answers mean the same: by their canonical forms where those decide, else by math-verify.

math-verify may run for ever and works in the main thread of a process only. It therefore runs in a process of its own,
which is started when first needed, killed when a pair takes too long, and started again for the next one.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from rlsf.answers.canonical import canonical
from rlsf.answers.choice import option_letters
from rlsf.answers.math_process import MathProcess
from rlsf.answers.number import canonical_number

#: Seconds that math-verify may take for one pair.
TIME_LIMIT = 5.0

#: Words, one of them too long for a product of variables: nothing that algebra could equate with other words.
_PROSE = re.compile(r"(?=.*[A-Za-z]{3})[A-Za-z ,.'’-]+|[A-Za-z]")
#: A number with its unit in words, and words that change the number itself.
_QUANTITY = re.compile(r"(.*[0-9])\s+([A-Za-z]{2,}(?:\s[A-Za-z]+)*)")
_NOT_A_UNIT = re.compile(
    r"\b(?:and|or|to|of|over|point|plus|minus|times|half|halves|thirds?|quarters?|squared|cubed|percent|dozen|hundred"
    r"|thousand|million|billion|trillion)\b",
    re.IGNORECASE,
)
#: Digits up to which fractions are compared exactly; Python refuses to convert texts of thousands of digits.
_LONGEST_EXACT = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two answers are equivalent; None, with the reason, where that could not be decided."""

    equivalent: bool | None
    reason: str | None = None


class Grader:
    """Decides the equivalence of answers, remembers its verdicts, and may be shared between threads.

    The math-verify process ends with ``close``, with the ``with`` statement, or with the grader itself.
    """

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        """``time_limit``: seconds that math-verify may take for one pair before its process is killed."""
        if not time_limit > 0:
            raise ValueError(f"time_limit={time_limit} is not a positive number of seconds")
        self._time_limit = time_limit
        self._process: MathProcess | None = None
        self._verdicts: dict[tuple[str, str, bool], Verdict] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __call__(self, answer: str, gold: str, choices: Sequence[str] = ()) -> bool | None:
        """``equivalent``, so that a grader can stand where a function is expected."""
        return self.equivalent(answer, gold, choices)

    def equivalent(
        self, answer: str, gold: str, choices: Sequence[str] = (), *, symmetric: bool = False
    ) -> bool | None:
        """Whether ``answer`` means the same as ``gold``; None where that could not be decided (see ``verdict``).

        ``choices`` are the texts of the question's options, for which their letters may stand. math-verify's relation
        depends on which side is gold: ``symmetric`` accepts equality in either order, as is needed between two
        answers of a model.
        """
        return self.verdict(answer, gold, choices, symmetric=symmetric).equivalent

    def verdict(self, answer: str, gold: str, choices: Sequence[str] = (), *, symmetric: bool = False) -> Verdict:
        """``equivalent`` with the reason for an undecided pair."""
        decided = compare_canonical(answer, gold, choices)
        if decided is not None:
            return Verdict(decided)
        first, second = canonical(answer), canonical(gold)
        if symmetric:
            first, second = sorted((first, second))
        with self._lock:
            if (first, second, symmetric) not in self._verdicts:
                self._verdicts[first, second, symmetric] = self._ask(first, second, symmetric)
            return self._verdicts[first, second, symmetric]

    def close(self) -> None:
        """End the math-verify process; a later comparison starts another."""
        with self._lock:
            self._stop()

    def _ask(self, answer: str, gold: str, symmetric: bool) -> Verdict:
        if self._process is None or not self._process.is_mine:
            self._process = MathProcess()
            weakref.finalize(self, self._process.stop)
        verdict = self._process.ask(gold, answer, symmetric, self._time_limit)
        timed_out = self._process.timed_out
        if verdict is None or timed_out:
            self._stop()
        if verdict is not None:
            return Verdict(verdict)
        return Verdict(
            None, f"math-verify took more than {self._time_limit:g} s" if timed_out else "the math-verify process died"
        )

    def _stop(self) -> None:
        if self._process is not None:
            self._process.stop()
        self._process = None


def compare_canonical(answer: str, gold: str, choices: Sequence[str] = ()) -> bool | None:
    """Equivalence as far as canonical forms decide it, None where it takes algebra.

    Equal forms are equivalent whatever their case (except LaTeX, where case means something); numbers are compared
    exactly, percent and currency signs and a unit on one side ("18 dollars") apart; an option's letter stands for its
    text; words differ where their letters do.
    """
    first, second = canonical(answer), canonical(gold)
    if first == second or ("\\" not in first + second and first.casefold() == second.casefold()):
        return True
    options = _option(first, choices), _option(second, choices)
    if options[0] is not None and options[1] is not None:
        return options[0] == options[1]
    numbers = canonical_number(first), canonical_number(second)
    if (numbers[0] is None) != (numbers[1] is None):
        numbers = numbers[0] or _amount(first), numbers[1] or _amount(second)
    if numbers[0] is not None and numbers[1] is not None:
        return _equal_numbers(numbers[0], numbers[1])
    plain = (
        number is not None or _PROSE.fullmatch(text) is not None
        for number, text in zip(numbers, (first, second), strict=True)
    )
    return False if all(plain) else None


def _option(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the option that a canonical text names by its letter or in its own words."""
    if not choices:
        return None
    letters = option_letters(choices)
    if len(text) == 1 and text.upper() in letters:
        return text.upper()
    forms = [canonical(choice).casefold() for choice in choices]
    return letters[forms.index(text.casefold())] if text.casefold() in forms else None


def _amount(text: str) -> str | None:
    """The number of "18 dollars"."""
    quantity = _QUANTITY.fullmatch(text)
    return None if quantity is None or _NOT_A_UNIT.search(quantity[2]) else canonical_number(quantity[1])


def _equal_numbers(first: str, second: str) -> bool | None:
    """Exact equality of canonical numbers.

    A rounded decimal and a fraction ("0.333333", "1/3") are left to math-verify and its tolerance.
    """
    if first == second or "/" not in first + second:
        return first == second
    if max(len(first), len(second)) > _LONGEST_EXACT:
        return None
    if Fraction(first) == Fraction(second):
        return True
    return None if "." in first + second else False


@cache
def _shared_grader() -> Grader:
    return Grader()


def equivalent(answer: str, gold: str, choices: Sequence[str] = (), *, symmetric: bool = False) -> bool | None:
    """``Grader.equivalent`` of a grader that all callers share."""
    return _shared_grader().equivalent(answer, gold, choices, symmetric=symmetric)
