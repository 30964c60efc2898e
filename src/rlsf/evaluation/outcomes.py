"""An outcome: what one decoding mode answered to one question, and whether it was right; and its Parquet form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pyarrow as pa

from rlsf.evaluation.config import Mode


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer to one question.

    ``trace_index`` is the trace shown for it: under ``majority`` the surest trace with that answer. ``confidence``
    is in [0, 1]: the signal's, or the vote share under ``majority``; 0 without an answer. ``correct`` is strict (the
    extracted answer is equivalent to the gold one), ``correct_flexible`` forgives its format. ``graded`` is False
    where the grader ran out of time, which counts as wrong. ``tokens`` is the length of the trace shown. ``failure``
    says why there is no answer or no confidence.
    """

    prompt_id: str
    mode: Mode
    trace_index: int
    answer: str | None
    confidence: float
    correct: bool
    correct_flexible: bool
    graded: bool
    tokens: int
    truncated: bool
    failure: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"question {self.prompt_id}, {self.mode}: confidence {self.confidence} is not in [0, 1]")


OUTCOME_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("mode", pa.string()),
        ("trace_index", pa.int32()),
        ("answer", pa.string()),
        ("confidence", pa.float64()),
        ("correct", pa.bool_()),
        ("correct_flexible", pa.bool_()),
        ("graded", pa.bool_()),
        ("tokens", pa.int32()),
        ("truncated", pa.bool_()),
        ("failure", pa.string()),
    ]
)


def outcomes_to_table(outcomes: Iterable[Outcome]) -> pa.Table:
    """Outcomes as a table of ``OUTCOME_SCHEMA``, row order kept."""
    return pa.Table.from_pylist([asdict(outcome) for outcome in outcomes], schema=OUTCOME_SCHEMA)


def table_to_outcomes(table: pa.Table) -> list[Outcome]:
    """The inverse of ``outcomes_to_table``."""
    return [Outcome(**row) for row in table.select(OUTCOME_SCHEMA.names).to_pylist()]
