"""What a vote sees of a question: the answers of its traces, how sure each trace is, and which answers are one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlsf.answers import SameAnswer, group_answers
from rlsf.errors import InputError


@dataclass(frozen=True, slots=True)
class Ballot:
    """The N traces of a question, in the order in which they were sampled.

    ``answers`` [N], None where a trace has none; ``sureness`` [N], confidences or any raw quantity that grows with
    sureness, -inf where a trace has none; ``classes`` hold the indices of equivalent answers.
    """

    answers: tuple[str | None, ...]
    sureness: tuple[float, ...]
    classes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls, answers: Sequence[str | None], confidences: Sequence[float | None], same: SameAnswer | None = None
    ) -> Ballot:
        """The ballot of ``answers``; ``same`` decides which are equivalent, by default as ``rlsf.answers`` does.

        Answers are compared here and nowhere later. Raises ``InputError`` for another number of confidences than of
        answers, and for one that is not finite.
        """
        if len(answers) != len(confidences):
            raise InputError(f"{len(answers)} answers but {len(confidences)} confidences: give one of each a trace")
        for index, confidence in enumerate(confidences):
            if confidence is not None and not math.isfinite(confidence):
                raise InputError(
                    f"confidence {confidence} of trace {index} is not finite: give None where there is none"
                )
        classes = group_answers(answers) if same is None else group_answers(answers, same)
        sureness = (-math.inf if confidence is None else float(confidence) for confidence in confidences)
        return cls(tuple(answers), tuple(sureness), tuple(map(tuple, classes)))

    @property
    def class_of(self) -> list[int]:
        """The class of each trace, -1 where it has no answer, [N]."""
        found = [-1] * len(self.answers)
        for number, members in enumerate(self.classes):
            for index in members:
                found[index] = number
        return found
