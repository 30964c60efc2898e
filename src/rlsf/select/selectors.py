"""Selectors: which of N traces answers for the question, by their answers and by how sure each trace is.

Each of them is a vote: a weight for every trace, summed over equivalent answers, and the largest sum wins. Ties go to
the answer given first, never to sureness, so that the majority is the plain one of self-consistency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rlsf.answers import SameAnswer, Vote, elect
from rlsf.errors import InputError, near_names
from rlsf.select.ballot import Ballot

Kind = Literal["argmax", "majority", "borda", "weighted"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: In the order of tables.
DEFAULT_SELECTORS = ("majority", "weighted", "borda", "argmax")
#: Up to here N^p stays within float64 for every N below 60,000, and from about p = N log 2 on Borda is argmax.
LARGEST_EXPONENT = 64.0


@dataclass(frozen=True, slots=True)
class Selector:
    """A rule for choosing one of N traces.

    ``argmax``: one vote, that of the surest answered trace. ``majority``: a vote each (self-consistency). ``borda``:
    v(r) = (N - r + 1)^p for the trace of rank r by sureness, 1 the surest (arXiv 2502.18581); traces
    without an answer cast no vote but hold a rank. ``weighted``: the confidence itself, CoT-decoding's aggregated path
    (arXiv 2402.10200, section 2.3). ``exponent`` is p of ``borda``; None: ``default_exponent`` of N.

    ``argmax`` and ``borda`` look at the order alone and take a sureness of any range; ``weighted`` takes [0, 1].
    """

    kind: Kind
    exponent: float | None = None

    def __post_init__(self) -> None:
        if self.exponent is None:
            return
        if self.kind != "borda":
            raise InputError(f"selector {self.kind}:{self.exponent:g}: an exponent means something to borda alone")
        if not 0 <= self.exponent <= LARGEST_EXPONENT:
            raise InputError(
                f"selector {self.name}: the exponent must be in [0, {LARGEST_EXPONENT:g}]; a larger one is argmax"
            )

    @property
    def name(self) -> str:
        """As it is written: ``borda``, ``borda:1.2``."""
        return self.kind if self.exponent is None else f"{self.kind}:{self.exponent:g}"

    def exponent_for(self, count: int) -> float:
        """The exponent of a Borda vote among ``count`` traces."""
        return default_exponent(count) if self.exponent is None else self.exponent

    def weights(self, ballot: Ballot) -> list[float]:
        """The weight of each trace's vote, [N]; that of a trace without an answer is not cast.

        Raises ``InputError`` where ``weighted`` meets a confidence outside [0, 1].
        """
        count = len(ballot.answers)
        match self.kind:
            case "majority":
                return [1.0] * count
            case "weighted":
                return [_unit(value, index) for index, value in enumerate(ballot.sureness)]
            case "argmax":
                answered = [index for index in _by_sureness(ballot) if ballot.answers[index] is not None]
                return [float(index == answered[0]) if answered else 0.0 for index in range(count)]
            case "borda":
                exponent, weights = self.exponent_for(count), [0.0] * count
                for rank, index in enumerate(_by_sureness(ballot), start=1):
                    weights[index] = float(count - rank + 1) ** exponent
                return weights

    def choose(self, ballot: Ballot) -> Vote | None:
        """The answer that wins, with the surest trace that gave it; None where no trace has an answer."""
        return elect(ballot.answers, ballot.classes, self.weights(ballot), ballot.sureness)


def _by_sureness(ballot: Ballot) -> list[int]:
    """Traces from the surest on, ties to the first."""
    return sorted(range(len(ballot.sureness)), key=lambda index: (-ballot.sureness[index], index))


def _unit(confidence: float, index: int) -> float:
    if confidence == -math.inf:
        return 0.0
    if not 0 <= confidence <= 1:
        raise InputError(
            f"confidence {confidence:g} of trace {index} is not in [0, 1], as the selector weighted needs it: give a"
            " confidence, or choose by order alone, with borda or argmax"
        )
    return confidence


def default_exponent(count: int) -> float:
    """p of a Borda vote among N traces: .3 for N <= 16 and 1.2 for N >= 32 (arXiv 2502.18581).

    Between these, of which the paper says nothing, linear in log N: .3 + .9 log2(N / 16). The paper advises to tune it
    on a few hundred labelled questions.
    """
    return min(1.2, 0.3 + 0.9 * math.log2(max(count, 16) / 16))


def parse_selector(text: str) -> Selector:
    """``majority``, ``weighted``, ``argmax``, ``borda`` or ``borda:P``; raises ``InputError`` with near names."""
    kind, colon, exponent = text.strip().partition(":")
    if kind not in KINDS:
        raise InputError(
            f"unknown selector {text!r}{near_names(kind, KINDS)}: use one of {', '.join(KINDS)}, or borda:P with an"
            " exponent P"
        )
    if not colon:
        return Selector(kind)
    try:
        return Selector(kind, float(exponent))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"selector {text!r}: the exponent {exponent!r} is not a number: write borda:1.2") from error


def choose(
    selector: str | Selector,
    answers: Sequence[str | None],
    confidences: Sequence[float | None],
    same: SameAnswer | None = None,
) -> Vote | None:
    """The answer that ``selector`` chooses among the N traces of a question; None where no trace has one.

    ``index`` of the vote is the trace to show. For several selectors make one ``Ballot``: answers are compared once.
    Raises ``InputError`` for an unknown selector and for confidences that it cannot use.
    """
    chosen = parse_selector(selector) if isinstance(selector, str) else selector
    return chosen.choose(Ballot.of(answers, confidences, same))
