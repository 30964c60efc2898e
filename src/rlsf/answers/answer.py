"""The final answer of a trace and where it stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer and its half-open token range [start, end) inside the trace.

    ``text`` is the canonical form (``"1234.5"``, ``"B"``), comparable with ``==`` for the common case;
    ``rlsf.answers.equivalent`` decides the rest.
    """

    text: str
    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"answer span [{self.start}, {self.end}) is empty or negative")
