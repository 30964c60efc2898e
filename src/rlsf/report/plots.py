"""The figures of the report. Before is always hollow and dashed, after filled and solid: colour never speaks alone.

Every function takes the curves of ``evaluation/summary.json`` as they are and returns one inline SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlsf.report.comparison import Estimate, Metric, ModeComparison
from rlsf.report.format import THIN
from rlsf.report.svg import AFTER, BEFORE, INK, LINE, MUTED, RIGHT, WRONG, house_style, inline_svg

Curve = Sequence[Mapping[str, Any]]

_BEFORE: dict[str, Any] = {"color": BEFORE, "linestyle": (0, (4, 2)), "linewidth": 1.4}
_AFTER: dict[str, Any] = {"color": AFTER, "linestyle": "-", "linewidth": 1.8}
#: Most points of a drawn curve; more cannot be seen at the size of a figure.
_POINTS = 160
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def interval_plot(comparisons: Sequence[ModeComparison], metric: Metric, name: str) -> str:
    """One row a decoding mode: the value before and after with their 95 % intervals."""
    with house_style():
        figure = Figure(figsize=(4.1, 0.6 + 0.46 * len(comparisons)))
        axes = figure.add_axes((0.25, 0.28, 0.72, 0.70))
        for row, mode in enumerate(comparisons):
            cell = mode.cell(metric)
            offset = 0.0 if cell.after is None else 0.15
            _whisker(axes, cell.before, metric, row - offset, BEFORE, filled=False)
            if cell.after is not None:
                _whisker(axes, cell.after, metric, row + offset, AFTER, filled=True)
        axes.set_yticks(range(len(comparisons)), [mode.name for mode in comparisons])
        axes.set_ylim(len(comparisons) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.margins(x=0.08)
        axes.set_xlabel(metric.name + (f" ({metric.unit})" if metric.unit else ""))
        return inline_svg(figure, name, f"{metric.name} before and after, by decoding mode, with 95 % intervals")


def _whisker(axes: Axes, estimate: Estimate, metric: Metric, y: float, colour: str, *, filled: bool) -> None:
    if estimate.value is None:
        return
    if estimate.interval is not None:
        bounds = [bound * metric.scale for bound in estimate.interval]
        axes.plot(bounds, [y, y], color=colour, linewidth=2.2, solid_capstyle="round", alpha=0.55)
    axes.plot(
        [estimate.value * metric.scale],
        [y],
        marker="s" if filled else "o",
        markersize=6 if filled else 6.5,
        markerfacecolor=colour if filled else "none",
        markeredgecolor=colour,
        markeredgewidth=1.6,
        linestyle="none",
    )


def reliability_plot(before: Curve, after: Curve | None, name: str, mode: str, *, top: float = 1.0) -> str:
    """Accuracy against mean confidence, one mark a non-empty bin, its area growing with the number of questions."""
    with house_style():
        figure, axes = _square()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        _bins(axes, before, "o", _BEFORE, filled=False)
        if after is not None:
            _bins(axes, after, "s", _AFTER, filled=True)
        _unit(axes, "Mean confidence", "Accuracy", top)
        title = f"Reliability diagram, {mode}: accuracy against confidence; the diagonal is perfect calibration"
        return inline_svg(figure, name, title)


def _bins(axes: Axes, bins: Curve, marker: str, line: Any, *, filled: bool) -> None:
    kept = [one for one in bins if one["count"]]
    if not kept:
        return
    x = [one["mean_confidence"] for one in kept]
    y = [one["accuracy"] for one in kept]
    for one in kept:
        if one.get("interval") is not None:
            axes.plot([one["mean_confidence"]] * 2, one["interval"], color=line["color"], linewidth=1, alpha=0.4)
    counts = np.array([one["count"] for one in kept], dtype=float)
    axes.plot(x, y, alpha=0.6, **line)
    axes.scatter(
        x,
        y,
        s=10 + 110 * counts / counts.sum(),
        marker=marker,
        facecolors=line["color"] if filled else "none",
        edgecolors=line["color"],
        linewidths=1.4,
        clip_on=False,
        zorder=3,
    )


def risk_coverage_plot(before: Curve, after: Curve | None, name: str, mode: str, *, top: float = 1.0) -> str:
    """Share of wrong answers among the most confident ones, against the share of questions answered."""
    with house_style():
        figure, axes = _square()
        for curve, line in ((before, _BEFORE), (after, _AFTER)):
            if not curve:
                continue
            points = _thin(curve)
            axes.plot([one["coverage"] for one in points], [one["risk"] for one in points], **line)
        _unit(axes, "Coverage (most confident first)", "Risk (share wrong)", min(1.0, max(0.1, top * 1.06)))
        return inline_svg(figure, name, f"Risk-coverage curve, {mode}: error among the most confident answers")


def histogram_plot(before: Curve, after: Curve | None, name: str, mode: str, *, top: float) -> str:
    """How many answers at each confidence, right ones solid and wrong ones hatched, before above after."""
    with house_style():
        panels = [("before", before)] if after is None else [("before", before), ("after", after)]
        figure = Figure(figsize=(3.1, 3.0))
        for position, (label, bins) in enumerate(panels):
            height = (0.83 - 0.1 * (len(panels) - 1)) / len(panels) - 0.03
            bottom = 0.15 + (len(panels) - 1 - position) * (height + 0.1)
            axes = figure.add_axes((0.19, bottom, 0.77, height))
            _stack(axes, bins, top)
            axes.set_ylabel("Answers")
            if after is not None:
                axes.set_title(label, fontsize=9, pad=4)
            if position < len(panels) - 1:
                axes.tick_params(labelbottom=False)
            else:
                axes.set_xlabel("Confidence")
        when = "" if after is None else ", before and after"
        return inline_svg(figure, name, f"Histogram of confidence, {mode}: right and wrong answers{when}")


def _stack(axes: Axes, bins: Curve, top: float) -> None:
    for one in bins:
        width = (one["upper"] - one["lower"]) * 0.86
        right, wrong = one["correct"], one["wrong"]
        if right:
            axes.bar(one["lower"], right, width, align="edge", color=RIGHT, linewidth=0)
        if wrong:
            drawn = {"color": "none", "edgecolor": WRONG, "hatch": "/////", "linewidth": 1}
            axes.bar(one["lower"], wrong, width, right, align="edge", **drawn)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(0, top * 1.12 or 1)
    axes.set_xticks(_QUARTERS)
    axes.xaxis.set_major_formatter("{x:.3g}")
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.grid(visible=False, axis="x")


def series_plot(
    series: Mapping[str, Sequence[tuple[float, float]]],
    name: str,
    title: str,
    *,
    unit: str = "",
    share: bool = False,
    kept: Sequence[float] = (),
    stopped: Sequence[float] = (),
) -> str:
    """Curves over optimiser steps, the second dashed. ``share``: proportions, drawn in per cent. ``kept``: the steps
    whose policies were kept, marked by dotted lines; ``stopped``: those at which training was stopped, by a line of
    dots and dashes that says so."""
    with house_style():
        figure = Figure(figsize=(3.1, 2.1))
        axes = figure.add_axes((0.21, 0.2, 0.75, 0.68))
        for step in kept:
            axes.axvline(step, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        for step in stopped:
            _stop(axes, step)
        for position, (label, points) in enumerate(series.items()):
            _line(axes, points, label, _BEFORE if position % 2 else _AFTER)
        if len(series) > 1:
            axes.legend(loc="lower right", bbox_to_anchor=(1.02, 0.97), ncols=2, labelcolor=MUTED, fontsize=8.5)
        axes.set_xlabel("Optimiser step")
        axes.set_ylabel(unit)
        axes.margins(x=0.1 if stopped else 0.05, y=0.18)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10] if share else None))
        if share:
            low, high = axes.get_ylim()
            axes.set_ylim(max(-0.02, low), min(1.02, high))
            axes.yaxis.set_major_formatter(_per_cent)
        return inline_svg(figure, name, title)


def _per_cent(share: float, _: object = None) -> str:
    return f"{100 * share + 0.0:.3g}{THIN}%"


def _stop(axes: Axes, step: float) -> None:
    """The line at which curves end, and beyond it the word."""
    axes.axvline(step, color=WRONG, linewidth=1, linestyle=(0, (5, 2, 1, 2)))
    axes.annotate(
        "stopped",
        (step, 0.03),
        xycoords=axes.get_xaxis_transform(),
        xytext=(3, 0),
        textcoords="offset points",
        rotation=90,
        fontsize=7.5,
        color=MUTED,
    )


def _line(axes: Axes, points: Sequence[tuple[float, float]], label: str, style: Any) -> None:
    steps, values = zip(*_thin(points), strict=True)
    axes.plot(steps, values, label=label, marker="o" if len(points) <= 12 else None, markersize=3.5, **style)


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.1, 3.0))
    return figure, figure.add_axes((0.19, 0.15, 0.77, 0.82))


def _unit(axes: Axes, x: str, y: str, top: float) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, top)
    axes.set_xticks(_QUARTERS)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:.3g}")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)


def _thin(points: Sequence[Any]) -> Sequence[Any]:
    """At most ``_POINTS`` of the points, evenly spaced, the last one always among them."""
    if len(points) <= _POINTS:
        return points
    places = np.unique(np.linspace(0, len(points) - 1, _POINTS).round().astype(int))
    return [points[place] for place in places]
