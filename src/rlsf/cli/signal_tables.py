"""What ``rlsf signals`` shows."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlsf.cli.width import wide_enough
from rlsf.evaluation.signal_advice import remarks
from rlsf.evaluation.signal_schema import SignalStudy
from rlsf.report.format import number
from rlsf.report.signal_page import answered_rightly, by_auroc, cell

#: Measures of the table in the terminal and their short names; the page has all of them.
COLUMNS = {
    "auroc": "AUROC",
    "within_question": "Within",
    "direct": "Direct",
    "worked": "Worked",
    "surest_accuracy": "Surest right",
    "surest_ece": "ECE",
    "saturated_wrong": "Wrong >= .99",
    "tied": "Tied",
}


def show_study(study: SignalStudy, console: Console) -> None:
    """Print the counts, the table and the advice."""
    shares = ", ".join(f"{name} {value}" for name, value, _ in answered_rightly(study))
    _say(console, f"{study.traces:,} traces of {study.questions:,} questions, {study.answered:,} with an answer")
    _say(console, f"right: {shares}")
    kinds = (
        f"{kind} {one.traces:,} ({number(100 * one.right / one.traces, 1)} % right)"
        for kind, one in study.kinds.items()
        if one.traces
    )
    _say(console, f"kinds: {'; '.join(kinds)}")
    wide_enough(console, 120).print(study_table(study))
    console.print(Text(study.advice, style="bold"), soft_wrap=True)
    for remark in remarks(study):
        _say(console, remark)


def study_table(study: SignalStudy) -> Table:
    """The signals, best by AUROC first, its interval in brackets; bold: the best, or not separated from it."""
    table = Table(title="Right against wrong", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("signal", no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    for name in by_auroc(study):
        cells = []
        for measure in COLUMNS:
            one = cell(study, name, measure)
            text = Text(one.text, "bold" if one.leads else "")
            if measure == "auroc" and one.bounds:
                text.append(f" ({one.bounds})", "dim")
            cells.append(text)
        table.add_row(name, *cells)
    return table


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)
