"""Every method against every other: a matrix to look at and a list to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlsf.evaluation.comparison_schema import Comparison, PairContrast
from rlsf.report.comparison import Metric
from rlsf.report.comparison_view import COMPARED, SYMBOLS, Finding, Row, finding, pair
from rlsf.report.format import probability

_WORDS: dict[Finding, str] = {
    "better": "better",
    "worse": "worse",
    "leaning better": "better before correction only",
    "leaning worse": "worse before correction only",
    "unclear": "not told apart",
}


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """The method of the row less that of the column."""

    finding: Finding
    symbol: str
    said: str


@dataclass(frozen=True, slots=True)
class PairLine:
    """One pair as a line of a table."""

    second: str
    first: str
    difference: str
    interval: str
    p: str
    p_holm: str
    word: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """All pairs in one metric. ``cells`` [row][column], None on the diagonal."""

    metric: Metric
    names: tuple[str, ...]
    cells: tuple[tuple[MatrixCell | None, ...], ...]
    lines: tuple[PairLine, ...]
    told_apart: int


def matrices(comparison: Comparison, rows: Sequence[Row]) -> list[Matrix]:
    """One matrix a compared metric, methods in the order of ``rows``; those without figures are left out."""
    names = tuple(row.method.recipe for row in rows if row.method.figures)
    if len(names) < 2:
        return []
    return [_matrix(comparison, metric, names) for metric in COMPARED]


def _matrix(comparison: Comparison, metric: Metric, names: tuple[str, ...]) -> Matrix:
    cells = tuple(
        tuple(None if row == column else _cell(comparison, metric, row, column) for column in names) for row in names
    )
    found = [pair(comparison, metric, first, second) for place, second in enumerate(names) for first in names[:place]]
    lines = sorted((one for one in found if one is not None), key=_by_evidence)
    return Matrix(
        metric,
        names,
        cells,
        tuple(_line(metric, one) for one in lines),
        sum(finding(metric, one) in ("better", "worse") for one in lines),
    )


def _by_evidence(one: PairContrast) -> tuple[float, float]:
    return (2.0 if one.p is None else one.p, -abs(one.value or 0.0))


def _cell(comparison: Comparison, metric: Metric, row: str, column: str) -> MatrixCell:
    found = pair(comparison, metric, column, row)
    if found is None:
        return MatrixCell("unclear", "", f"{row} and {column}: {metric.name} is undefined")
    told = finding(metric, found)
    interval = metric.bounds(found.interval, signed=True)
    numbers = f"{metric.change(found.value)}{f' ({interval})' if interval else ''}"
    p = f"p {probability(found.p)}, corrected {probability(found.p_holm)}"
    return MatrixCell(told, SYMBOLS[told], f"{row} less {column}: {metric.name} {numbers}, {p}: {_WORDS[told]}")


def _line(metric: Metric, one: PairContrast) -> PairLine:
    return PairLine(
        second=one.second,
        first=one.first,
        difference=metric.change(one.value),
        interval=metric.bounds(one.interval, signed=True),
        p=probability(one.p),
        p_holm=probability(one.p_holm),
        word=_WORDS[finding(metric, one)],
    )
