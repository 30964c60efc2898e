"""The before/after table a run ends with in the terminal: at most 100 columns (80 at need), plain text when piped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rlsf.report.comparison import ACCURACY, HEADLINE, TOKENS, Cell, Estimate, Judgement, compare

#: Columns a console needs to print every cell on one line.
TABLE_WIDTH = 100

_STYLES: dict[Judgement, str] = {"better": "green", "worse": "red", "unclear": "dim", "neutral": ""}
_WORDS: dict[Judgement, str] = {"better": "better", "worse": "worse", "unclear": "unclear", "neutral": ""}


@dataclass(frozen=True, slots=True)
class _FittedTable:
    """Every cell on one line where the console is wide enough for all of them, else every cell on two."""

    summary: Mapping[str, Any]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = _table(self.summary, " ")
        fits = Measurement.get(console, options.update(width=TABLE_WIDTH), table).maximum <= options.max_width
        yield table if fits else _table(self.summary, "\n")


def summary_table(summary: Mapping[str, Any]) -> RenderableType:
    """Accuracy, ECE, Brier, AUROC (95 % intervals in brackets) and mean length of every decoding mode.

    ``change`` is better or worse where the paired 95 % interval of the difference excludes zero, else unclear.
    """
    return _FittedTable(summary)


def _table(summary: Mapping[str, Any], joint: str) -> Table:
    """The table, ``joint`` between each number and what stands with it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, show_edge=False)
    table.add_column("Decoding", no_wrap=True)
    table.add_column("", no_wrap=True)
    for metric in HEADLINE:
        unit = f", {metric.unit}" if metric.unit else ""
        name = "Tokens" if metric is TOKENS else f"{metric.name}{unit}"
        table.add_column(name, justify="right", no_wrap=metric is TOKENS)
    for mode in compare(summary):
        before = [_level(cell, cell.before, joint) for cell in mode.cells]
        if not mode.has_after:
            table.add_row(Text(mode.name, "bold"), "", *before)
            continue
        table.add_row(Text(mode.name, "bold"), "before", *before)
        table.add_row("", "after", *(_level(cell, cell.after, joint) for cell in mode.cells))
        table.add_row("", "change", *(_change(cell, joint) for cell in mode.cells), end_section=True)
    return table


def _level(cell: Cell, estimate: Estimate | None, joint: str) -> Text:
    if estimate is None or estimate.value is None:
        return Text("n/a", "dim")
    text = Text(_short(cell, cell.metric.value(estimate.value)))
    bounds = _short(cell, cell.metric.bounds(estimate.interval))
    if bounds and cell.metric is not TOKENS:
        text.append(f"{joint}({bounds})", "dim")
    return text


def _change(cell: Cell, joint: str) -> Text:
    if cell.difference is None:
        return Text("n/a", "dim")
    value = _short(cell, cell.metric.change(cell.difference.value))
    word = _WORDS[cell.judgement]
    return Text(f"{value}{joint}{word}" if word else value, _STYLES[cell.judgement])


def _short(cell: Cell, text: str) -> str:
    """At most five characters a number: no unit, no zero before the point, no decimals that say nothing."""
    text = text.removesuffix(cell.metric.unit).rstrip()
    if cell.metric is TOKENS:
        return re.sub(r"(\d{4,})\.\d", r"\1", text)
    if cell.metric is ACCURACY:
        return text.replace("100.0", "100")
    return text.replace("0.", ".").replace("1.000", "1.00")
