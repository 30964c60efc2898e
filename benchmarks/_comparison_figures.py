"""A comparison as pictures for a documentation page."""

from __future__ import annotations

from pathlib import Path

from rlsf.evaluation.comparison_schema import Comparison
from rlsf.report.comparison import ECE
from rlsf.report.comparison_plots import cost_plot, scatter_plot
from rlsf.report.comparison_view import rows
from rlsf.report.svg import standalone_svg


def write_figures(comparison: Comparison, folder: Path) -> None:
    """``comparison-calibration.svg`` and ``comparison-cost.svg``; equal comparisons give equal bytes."""
    shown = [row for row in rows(comparison) if row.method.figures]
    calibration, cost = "comparison-calibration", "comparison-cost"
    drawings = {
        calibration: scatter_plot(shown, ECE, calibration, legend=True),
        cost: cost_plot(shown, cost, legend=True),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in drawings.items():
        (folder / f"{name}.svg").write_text(standalone_svg(svg, halo=True), encoding="utf-8")
