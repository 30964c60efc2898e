"""A comparison of methods as one self-contained page: no request leaves it, and it runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from rlsf import __version__
from rlsf.evaluation.comparison_schema import Comparison
from rlsf.files import write_text
from rlsf.report.comparison import ACCURACY, BRIER, ECE, Metric
from rlsf.report.comparison_matrix import matrices
from rlsf.report.comparison_plots import cost_plot, scatter_plot, small_reliability
from rlsf.report.comparison_view import COLUMNS, ENTROPY, GROUPS, SYMBOLS, Row, failures, groups, verdict
from rlsf.report.comparison_view import rows as every_row
from rlsf.report.figures import Drawing
from rlsf.report.format import count, number
from rlsf.report.names import short_name
from rlsf.report.page import asset, page_environment

#: What runs spend, by name, as the page heads its columns; the rest of ``spent`` follows under its own name.
_SPENT = {
    "generated_tokens": "Tokens generated",
    "training_tokens": "Tokens trained on",
    "optimiser_steps": "Optimiser steps",
    "completions": "Completions",
    "seconds_learning": "Seconds learning",
    "seconds_measuring": "Seconds measuring",
}


def write_comparison_page(comparison: Comparison, path: Path) -> None:
    """Write the page atomically."""
    write_text(path, render_comparison(comparison))


def render_comparison(comparison: Comparison) -> str:
    """The whole page as one HTML document; equal comparisons give equal bytes.

    Every text (recipes, models, reasons of failures) is escaped. A content security policy allows the page's own style
    and forbids everything else.
    """
    shown = groups(comparison)
    rows = every_row(comparison)
    measured = [row for row in rows if row.method.figures]
    found = matrices(comparison, rows)
    return (
        page_environment()
        .get_template("comparison.html.j2")
        .render(
            comparison=comparison,
            asked=comparison.asked,
            model_name=short_name(comparison.asked.model),
            data_name=short_name(comparison.asked.data),
            measured_name=short_name(comparison.asked.measured_on),
            version=__version__,
            style=Markup(asset("style.css") + asset("comparison.css")),
            questions=max((one.n for one in comparison.methods), default=0),
            groups=shown,
            kinds=GROUPS,
            symbols=SYMBOLS,
            metrics=columns(rows),
            accuracy=ACCURACY,
            sentences=verdict(comparison),
            scatters=_scatters(measured),
            reliability=_reliability(measured),
            cost=_cost(measured),
            matrices=found,
            by_seed=_by_seed(measured),
            spent_names=_spent_names(rows),
            spent_rows=_spent_rows(rows),
            failures=failures(comparison),
        )
    )


def columns(rows: Sequence[Row]) -> list[Metric]:
    """The metrics of the table: those that any method has."""
    return [metric for metric in COLUMNS if any(row.estimate(metric).value is not None for row in rows)]


def _scatters(rows: Sequence[Row]) -> list[Drawing]:
    return [
        Drawing(f"Accuracy and {metric.name}", Markup(scatter_plot(rows, metric, f"scatter-{metric.key}")))
        for metric in (ECE, BRIER)
        if rows
    ]


def _reliability(rows: Sequence[Row]) -> list[Drawing]:
    return [
        Drawing(
            row.method.recipe,
            Markup(small_reliability(row.method, f"reliability-{place}")),
            f"ECE {ECE.value(row.estimate(ECE).value)}",
        )
        for place, row in enumerate(rows)
    ]


def _cost(rows: Sequence[Row]) -> Markup:
    return Markup(cost_plot(rows, "cost-plot") if any(any(row.method.curves.values()) for row in rows) else "")


def _by_seed(rows: Sequence[Row]) -> list[tuple[str, int, list[str]]]:
    """Method, seed and the figures of that run, for all runs."""
    metrics = columns(rows)
    return [
        (
            row.method.recipe,
            seed,
            [
                metric.value(row.method.figures[metric.key].by_seed.get(seed))
                if metric.key in row.method.figures
                else ENTROPY.value(None)
                for metric in metrics
            ],
        )
        for row in rows
        for seed in row.method.seeds
    ]


def _spent_keys(rows: Sequence[Row]) -> list[str]:
    known = dict.fromkeys(key for row in rows for key in row.method.spent)
    return [key for key in _SPENT if key in known] + [key for key in known if key not in _SPENT]


def _spent_names(rows: Sequence[Row]) -> list[str]:
    return [_SPENT.get(key, key.replace("_", " ")) for key in _spent_keys(rows)]


def _spent_rows(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    keys = _spent_keys(rows)
    return [
        (row.method.recipe, [_whole(row.method.spent.get(key)) for key in keys]) for row in rows if row.method.spent
    ]


def _whole(value: float | None) -> str:
    return number(None, 0) if value is None else count(round(value))
