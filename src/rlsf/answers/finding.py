"""What a search for the answer comes back with."""

from __future__ import annotations

from dataclasses import dataclass

from rlsf.answers.answer import Answer


@dataclass(frozen=True, slots=True)
class Finding:
    """An answer, or the reason why there is none: exactly one of the two."""

    answer: Answer | None
    failure: str | None = None

    def __post_init__(self) -> None:
        if (self.answer is None) != (self.failure is not None):
            raise ValueError("a finding is either an answer or a failure")


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A possible answer at the characters [start, end) of a text; ``answer`` is its canonical form."""

    answer: str
    start: int
    end: int
