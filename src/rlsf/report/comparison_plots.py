"""The figures of a comparison. Kinds of methods differ in the shape of their marks as well as in colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlsf.evaluation.comparison_schema import CostPoint, Kind, MethodSummary
from rlsf.report.comparison import ACCURACY, Metric
from rlsf.report.comparison_view import Row
from rlsf.report.format import THIN
from rlsf.report.label_placement import anchor, place_labels
from rlsf.report.svg import AFTER, BEFORE, INK, LINE, MUTED, RIGHT, house_style, inline_svg

#: Marker, colour and whether it is filled, by kind of method.
MARKS: dict[Kind, tuple[str, str, bool]] = {
    "start": ("D", INK, True),
    "self-feedback": ("o", AFTER, True),
    "labelled": ("s", BEFORE, True),
    "bound": ("^", RIGHT, False),
}
_LABEL = 8.5
#: Width of a letter and height of a line in parts of the font size, generous for fonts that the page may have.
_LETTER, _LINE_HEIGHT = 0.56, 1.15


def scatter_plot(rows: Sequence[Row], metric: Metric, name: str) -> str:
    """Accuracy against a calibration error, with the 95 % intervals of both; better is up and to the left."""
    shown = [row for row in rows if row.estimate(ACCURACY).value is not None and row.estimate(metric).value is not None]
    with house_style():
        figure = Figure(figsize=(10.6, 6.0))
        axes = figure.add_axes((0.065, 0.095, 0.92, 0.89))
        for row in shown:
            _cross(axes, row, metric)
        axes.margins(0.05)
        axes.set_xlabel(f"{metric.name} (left is better)")
        axes.set_ylabel(f"Accuracy ({ACCURACY.unit})")
        _name_points(figure, axes, [(row.method, _place(row, metric)) for row in shown])
        return inline_svg(figure, name, f"Accuracy against {metric.name} of every method, with 95 % intervals")


def _place(row: Row, metric: Metric) -> tuple[float, float]:
    x, y = row.estimate(metric).value, row.estimate(ACCURACY).value
    assert x is not None
    assert y is not None
    return x * metric.scale, y * ACCURACY.scale


def _cross(axes: Axes, row: Row, metric: Metric) -> None:
    colour = MARKS[row.method.kind][1]
    x, y = _place(row, metric)
    for bounds, scale, flat in (
        (row.estimate(metric).interval, metric.scale, True),
        (row.estimate(ACCURACY).interval, ACCURACY.scale, False),
    ):
        if bounds is not None:
            reach = [bound * scale for bound in bounds]
            line = (reach, [y, y]) if flat else ([x, x], reach)
            axes.plot(*line, color=colour, linewidth=1.1, alpha=0.28, solid_capstyle="butt")
    _mark(axes, row.method.kind, x, y)


def _mark(axes: Axes, kind: Kind, x: float, y: float, size: float = 6.5) -> None:
    marker, colour, filled = MARKS[kind]
    axes.plot(
        [x],
        [y],
        marker=marker,
        markersize=size,
        markerfacecolor=colour if filled else "none",
        markeredgecolor=colour,
        markeredgewidth=1.5,
        linestyle="none",
        zorder=3,
    )


def _name_points(figure: Figure, axes: Axes, points: Sequence[tuple[MethodSummary, tuple[float, float]]]) -> None:
    """Each point's name beside it, joined by a thin line where it stands apart."""
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # places are those of the limits that are drawn
    width, height = (float(side) * 72 for side in figure.get_size_inches())
    box = axes.get_position()
    area = (box.width * width, box.height * height)
    to_points = axes.transLimits
    at = [tuple(np.asarray(to_points.transform(place)) * area) for _, place in points]
    sizes = [(_LABEL * _LETTER * len(one.recipe), _LABEL * _LINE_HEIGHT) for one, _ in points]
    for (one, _), point, size, corner in zip(points, at, sizes, place_labels(at, sizes, area), strict=True):
        meets = anchor(point, corner, size)
        if np.hypot(meets[0] - point[0], meets[1] - point[1]) > 9:
            x, y = ([a / b for a, b in zip((point[i], meets[i]), (area[i],) * 2, strict=True)] for i in (0, 1))
            axes.plot(x, y, color=MUTED, linewidth=0.6, alpha=0.7, transform=axes.transAxes, zorder=2)
        # Anchored on the side of its point, so that another font does not move it away.
        right = corner[0] + size[0] / 2 < point[0]
        axes.text(
            (corner[0] + (size[0] if right else 0)) / area[0],
            (corner[1] + size[1] / 2) / area[1],
            literal(one.recipe),
            transform=axes.transAxes,
            fontsize=_LABEL,
            ha="right" if right else "left",
            va="center_baseline",
            zorder=4,
        )


def literal(text: str) -> str:
    """Text that Matplotlib takes as it is, dollar signs too."""
    return text.replace("$", r"\$")


def small_reliability(method: MethodSummary, name: str) -> str:
    """Accuracy against mean confidence, small: the answers of all runs, marks growing with the number of answers."""
    with house_style():
        figure = Figure(figsize=(2.1, 2.0))
        axes = figure.add_axes((0.17, 0.15, 0.8, 0.82))
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        marker, colour, filled = MARKS[method.kind]
        kept = [one for one in method.reliability if one.count]
        x = [one.mean_confidence or 0.0 for one in kept]
        y = [one.accuracy or 0.0 for one in kept]
        for place, one in zip(x, kept, strict=True):
            if one.interval is not None:
                axes.plot([place] * 2, one.interval, color=colour, linewidth=1, alpha=0.4)
        counts = np.array([one.count for one in kept], dtype=float)
        axes.plot(x, y, color=colour, linewidth=1.3, alpha=0.6)
        axes.scatter(
            x,
            y,
            s=8 + 80 * counts / max(counts.sum(), 1),
            marker=marker,
            facecolors=colour if filled else "none",
            edgecolors=colour,
            linewidths=1.2,
            clip_on=False,
            zorder=3,
        )
        _unit_square(axes)
        title = f"Reliability diagram of {method.recipe}: accuracy against confidence; the diagonal is calibrated"
        return inline_svg(figure, name, title)


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks((0.0, 0.5, 1.0))
        axis.set_major_formatter("{x:.3g}")
    axes.tick_params(labelsize=8)


def cost_plot(rows: Sequence[Row], name: str) -> str:
    """Accuracy over tokens generated and trained on: a line a method, with a mark at its end, both means over runs."""
    shown = [row for row in rows if any(row.method.curves.values())]
    with house_style():
        figure = Figure(figsize=(10.6, 5.4))
        axes = figure.add_axes((0.065, 0.105, 0.92, 0.88))
        ends = []
        for row in shown:
            colour, end = MARKS[row.method.kind][1], _mean_of([curve[-1] for curve in _curves(row.method)])
            _draw_way(axes, mean_way(row.method), end, colour)
            ends.append((row.method, end))
        for method, end in ends:
            _mark(axes, method.kind, *end)
        axes.margins(0.06)
        axes.set_xlabel("Tokens generated and trained on (thousands)")
        axes.set_ylabel(f"Accuracy ({ACCURACY.unit})")
        axes.xaxis.set_major_locator(MaxNLocator(8))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.4g}".replace(",", THIN))
        for side in ("left", "bottom"):
            axes.spines[side].set_color(LINE)
        _name_points(figure, axes, ends)
        return inline_svg(figure, name, "Accuracy of every method over the tokens it generated and trained on")


def _tokens(point: CostPoint) -> float:
    return (point.generated_tokens + point.training_tokens) / 1000


def _draw_way(axes: Axes, way: Sequence[tuple[float, float]], end: tuple[float, float], colour: str) -> None:
    """The line to an end, dotted from the last checkpoint to an earlier one's accuracy where that was kept."""
    if not way:
        return
    style: dict[str, Any] = {"color": colour, "linewidth": 1.2, "alpha": 0.7}
    chosen = way[-1][0] == end[0]  # nothing was spent in between
    axes.plot(*zip(*(way if chosen else [*way, end]), strict=True), marker=".", markersize=4, **style)
    if chosen:
        axes.plot(*zip(way[-1], end, strict=True), linestyle=":", **style)


def mean_way(method: MethodSummary) -> list[tuple[float, float]]:
    """Thousands of tokens and accuracy in per cent on the way to the end: means over runs, at steps that all have."""
    ways = [{one.step: one for one in curve[:-1]} for curve in _curves(method)]
    steps = sorted(set[int].intersection(*map(set, ways)))
    return [_mean_of([way[step] for way in ways]) for step in steps]


def _curves(method: MethodSummary) -> list[Sequence[CostPoint]]:
    return [curve for curve in method.curves.values() if curve]


def _mean_of(points: Sequence[CostPoint]) -> tuple[float, float]:
    return float(np.mean([_tokens(one) for one in points])), float(np.mean([100 * one.accuracy for one in points]))
