"""A comparison as a table for the terminal (at most 100 columns) and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from rlsf.evaluation.comparison_schema import Comparison, Kind
from rlsf.report.comparison import ACCURACY, AUROC, BRIER, ECE, TOKENS, Metric
from rlsf.report.comparison_view import COLUMNS, SYMBOLS, Change, Finding, Row, failures, groups
from rlsf.report.format import count

_STYLES: dict[Finding, str] = {
    "better": "bold green",
    "leaning better": "green",
    "unclear": "dim",
    "leaning worse": "red",
    "worse": "bold red",
}
#: Metrics of the terminal's table with their intervals, and those that stand alone there.
_WITH_INTERVAL, _ALONE = (ACCURACY, ECE), (BRIER, AUROC, TOKENS)
#: Groups by names as short as those of methods.
_GROUPS: dict[Kind, str] = {
    "start": "Before any learning",
    "self-feedback": "From own feedback",
    "labelled": "From gold answers",
    "bound": "Bounds",
}
LEGEND = (
    f"Change in accuracy, in points: {SYMBOLS['better']} better and {SYMBOLS['worse']} worse after Holm's correction"
    f" over all pairs, {SYMBOLS['leaning better']} and {SYMBOLS['leaning worse']} before it only,"
    f" {SYMBOLS['unclear']} not told apart."
)


def comparison_table(comparison: Comparison) -> Table:
    """Accuracy and ECE (95 % intervals in brackets), Brier, AUROC and mean length of every method, by group.

    ``change`` is the accuracy less that of the model as given, marked by whether it holds after correction.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, show_edge=False)
    table.caption, table.caption_justify = LEGEND, "left"
    table.add_column("Method", overflow="fold")
    table.add_column("Runs", justify="right", no_wrap=True)
    table.add_column("Accuracy, %", justify="right", no_wrap=True)
    table.add_column("Change", justify="right", no_wrap=True)
    for name in ("ECE", "Brier", "AUROC", "Tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in groups(comparison):
        table.add_row(Text(_GROUPS[group.kind], "dim italic"))
        for row in group.rows:
            table.add_row(*_cells(row), end_section=row is group.rows[-1])
    return table


def _cells(row: Row) -> list[Text]:
    runs = row.runs.replace(" of ", "/")
    name = Text(row.method.recipe, "bold")
    if row.decoding:
        name.append(f" ({row.decoding.lower()})", "dim")
    if not row.method.figures:
        return [name, Text(runs), Text("every run failed", "red")]
    accuracy, ece = (_level(row, metric) for metric in _WITH_INTERVAL)
    alone = [Text(_short(metric, metric.value(row.estimate(metric).value))) for metric in _ALONE]
    return [name, Text(runs), accuracy, _change(row.change), ece, *alone]


def _level(row: Row, metric: Metric) -> Text:
    estimate = row.estimate(metric)
    text = Text(_short(metric, metric.value(estimate.value)))
    bounds = _short(metric, metric.bounds(estimate.interval))
    return text.append(f" ({bounds})", "dim") if bounds else text


def _change(change: Change | None) -> Text:
    if change is None:
        return Text("")
    return Text(f"{change.value} {SYMBOLS[change.finding]}", _STYLES[change.finding])


def _short(metric: Metric, text: str) -> str:
    """No unit, and no zero before the point where there is nothing else."""
    text = text.removesuffix(metric.unit).rstrip()
    return text if metric.digits < 3 else text.replace("0.", ".")


def markdown(comparison: Comparison) -> str:
    """All figures with their intervals as one Markdown table, groups apart, then how to read it and what failed."""
    shown = groups(comparison)
    metrics = [m for m in COLUMNS if any(row.estimate(m).value is not None for group in shown for row in group.rows)]
    heads = ["Method", "Runs"]
    for metric in metrics:
        heads += [f"{metric.name}{f', {metric.unit}' if metric.unit else ''}"]
        heads += ["Change"] if metric is ACCURACY else []
    lines = [_line(heads), "|---|" + "---:|" * (len(heads) - 1)]
    for group in shown:
        lines.append(_line([f"**{group.title}**", *[""] * (len(heads) - 1)]))
        lines += [_line(_markdown_cells(row, metrics)) for row in group.rows]
    questions = max((one.n for one in comparison.methods), default=0)
    notes = [
        f"{count(questions)} questions; means over runs with 95 % intervals over questions and seeds. {LEGEND}",
        *(f"{escaped(name)}, seed {seed}, failed: {escaped(reason)}" for name, seed, reason in failures(comparison)),
    ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"


def _markdown_cells(row: Row, metrics: Sequence[Metric]) -> list[str]:
    name = escaped(row.method.recipe) + (f" ({row.decoding.lower()})" if row.decoding else "")
    if not row.method.figures:
        return [name, row.runs, "every run failed", *[""] * len(metrics)]
    cells = [name, row.runs]
    for metric in metrics:
        estimate = row.estimate(metric)
        bounds = metric.bounds(estimate.interval)
        cells.append(
            metric.value(estimate.value).removesuffix(metric.unit).rstrip() + (f" ({bounds})" if bounds else "")
        )
        if metric is ACCURACY:
            change = row.change
            cells.append("" if change is None else f"{change.value} ({change.bounds}) {SYMBOLS[change.finding]}")
    return cells


def escaped(text: str) -> str:
    """Text that Markdown takes as it is, on one line."""
    text = " ".join(text.split())
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
