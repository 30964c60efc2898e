"""What is judged, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlsf.judging.config import Confidence, Probability


@dataclass(frozen=True, slots=True)
class Case:
    """A question with reasonings to judge, all sampled for it, and the answer that each ends in (None: in none)."""

    prompt_id: str
    question: str
    choices: tuple[str, ...]
    reasonings: tuple[str, ...]
    answers: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """The probabilities with which a model says the two words after one question."""

    true: float
    false: float

    def confidence(self, probability: Probability = "renormalised") -> float | None:
        """P(True), in [0, 1]: p_true / (p_true + p_false), or p_true. None where neither word can be said at all."""
        if self.true + self.false <= 0:
            return None
        return self.true if probability == "raw" else self.true / (self.true + self.false)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a model says of one reasoning: once of the whole, or once of each statement; and of its answer.

    ``reasoning`` is empty and ``answer`` None where that was not asked, where there is none, or where the question does
    not fit the model's context. ``attempts``: how many reasonings stood beside each other when it was judged.
    """

    reasoning: tuple[Said, ...] = ()
    answer: Said | None = None
    attempts: int = 0

    def confidence(self, kind: Confidence, probability: Probability = "renormalised") -> float | None:
        """C(r|x), C(a|x,r) or their product, in [0, 1]; None where a part of it is missing."""
        parts = {
            "reasoning": statement_mean([said.confidence(probability) for said in self.reasoning]),
            "answer": self.answer.confidence(probability) if self.answer else None,
        }
        return composite(parts["answer"], parts["reasoning"]) if kind == "composite" else parts[kind]


def composite(answer: float | None, reasoning: float | None) -> float | None:
    """C(a, r | x) = C(a | x, r) C(r | x), in [0, 1] (arXiv 2505.17454); None where one of them is missing."""
    return None if answer is None or reasoning is None else answer * reasoning


def statement_mean(confidences: Sequence[float | None]) -> float | None:
    """C(r | x) = (1/T) sum_t C(r_t | x, r_<t): a mean, not a product, lest long reasonings lose (arXiv 2505.17454).

    None for no statements, and where the confidence of one is missing.
    """
    known = [confidence for confidence in confidences if confidence is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(confidences) else None
