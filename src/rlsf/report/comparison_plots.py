"""The figures of a comparison. Kinds of methods differ in the shape of their marks as well as in colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rlsf.evaluation.comparison_schema import CostPoint, Kind, MethodSummary
from rlsf.report.comparison import ACCURACY, Metric
from rlsf.report.comparison_view import GROUPS, Row
from rlsf.report.format import THIN
from rlsf.report.point_names import NamedPoint, name_points
from rlsf.report.root_scale import root_scale
from rlsf.report.svg import AFTER, BEFORE, INK, LINE, MUTED, RIGHT, house_style, inline_svg

#: Marker, colour and whether it is filled, by kind of method.
MARKS: dict[Kind, tuple[str, str, bool]] = {
    "start": ("D", INK, True),
    "self-feedback": ("o", AFTER, True),
    "labelled": ("s", BEFORE, True),
    "bound": ("^", RIGHT, False),
}
#: Inches: the letters are readable where the figure is as wide as a page's text.
_WIDTH, _HEIGHT = 8.4, 5.6
#: An interval is shown up to this multiple of the largest error, beyond which it would take the room of all others.
_REACH = 1.5


def scatter_plot(rows: Sequence[Row], metric: Metric, name: str, *, legend: bool = False) -> str:
    """Accuracy against a calibration error in [0, 1], with the 95 % intervals of both; better is up and to the left.

    The error's axis grows with the square root: most errors are small. ``legend``: what the marks are, in the figure.
    """
    shown = [row for row in rows if row.estimate(ACCURACY).value is not None and row.estimate(metric).value is not None]
    with house_style():
        figure, axes = _figure(shown, legend=legend)
        for row in shown:
            _cross(axes, row, metric)
        axes.margins(0.05)
        root_scale(axes, *_reach(shown, metric))
        axes.set_xlabel(f"{metric.name} (left is better; square-root scale)")
        axes.set_ylabel(f"Accuracy ({ACCURACY.unit})")
        name_points(figure, axes, [_named(row.method, _place(row, metric)) for row in shown])
        return inline_svg(figure, name, f"Accuracy against {metric.name} of every method, with 95 % intervals")


def _figure(rows: Sequence[Row], *, legend: bool) -> tuple[Figure, Axes]:
    """A figure of the house's size, with a row above the axes for the marks of all kinds that are there."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT))
    axes = figure.add_axes((0.075, 0.09, 0.905, 0.85 if legend else 0.895))
    if legend:
        kinds: list[Kind] = [kind for kind in GROUPS if any(row.method.kind == kind for row in rows)]
        marks = [Line2D([], [], label=GROUPS[kind], **_style(kind)) for kind in kinds]
        figure.legend(
            handles=marks,
            loc="upper left",
            bbox_to_anchor=(0.062, 1.0),
            ncols=len(marks),
            labelcolor=INK,
            handletextpad=0.1,
            columnspacing=1.2,
        )
    return figure, axes


def _reach(rows: Sequence[Row], metric: Metric) -> tuple[float, float]:
    """From the smallest error to the largest, intervals included as far as ``_REACH`` allows."""
    estimates = [row.estimate(metric) for row in rows]
    values = [one.value for one in estimates if one.value is not None] or [0.0]
    bounds = [bound for one in estimates for bound in one.interval or ()]
    return max(0.0, min(values + bounds)), min(max(values + bounds), _REACH * max(values))


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


def _mark(axes: Axes, kind: Kind, x: float, y: float) -> None:
    axes.plot([x], [y], zorder=3, **_style(kind))


def _named(method: MethodSummary, place: tuple[float, float], way: Sequence[tuple[float, float]] = ()) -> NamedPoint:
    return NamedPoint(method.recipe, place, MARKS[method.kind][1], way)


def _style(kind: Kind) -> dict[str, Any]:
    """The mark of a kind of method."""
    marker, colour, filled = MARKS[kind]
    return {
        "marker": marker,
        "markersize": 6.5,
        "markerfacecolor": colour if filled else "none",
        "markeredgecolor": colour,
        "markeredgewidth": 1.5,
        "linestyle": "none",
    }


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


def cost_plot(rows: Sequence[Row], name: str, *, legend: bool = False) -> str:
    """Accuracy over tokens generated and trained on: a line a method, with a mark at its end, both means over runs.

    ``legend``: what the marks are, in the figure.
    """
    shown = [row for row in rows if any(row.method.curves.values())]
    with house_style():
        figure, axes = _figure(shown, legend=legend)
        ends = []
        for row in shown:
            colour, end = MARKS[row.method.kind][1], _mean_of([curve[-1] for curve in _curves(row.method)])
            way, last = mean_way(row.method), last_learned(row.method)
            _draw_way(axes, way, last, end, colour)
            ends.append((row.method, end, [*way, last, end]))
        for method, end, _ in ends:
            _mark(axes, method.kind, *end)
        axes.margins(0.06)
        axes.set_xlabel("Tokens generated and trained on (thousands)")
        axes.set_ylabel(f"Accuracy ({ACCURACY.unit})")
        axes.xaxis.set_major_locator(MaxNLocator(8))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.4g}".replace(",", THIN))
        for side in ("left", "bottom"):
            axes.spines[side].set_color(LINE)
        name_points(figure, axes, [_named(*one) for one in ends])
        return inline_svg(figure, name, "Accuracy of every method over the tokens it generated and trained on")


def _tokens(point: CostPoint) -> float:
    return (point.generated_tokens + point.training_tokens) / 1000


def _draw_way(
    axes: Axes,
    way: Sequence[tuple[float, float]],
    last: tuple[float, float],
    end: tuple[float, float],
    colour: str,
) -> None:
    """The line to the last that was learned, dotted from there to an earlier accuracy where that was kept."""
    if not way:
        return
    style: dict[str, Any] = {"color": colour, "linewidth": 1.2, "alpha": 0.7}
    line = [*way, last] if way[-1][0] < last[0] else way
    axes.plot(*zip(*line, strict=True), marker=".", markersize=4, **style)
    if last != end:
        axes.plot(*zip(last, end, strict=True), linestyle=":", **style)


def last_learned(method: MethodSummary) -> tuple[float, float]:
    """What was spent in all and the accuracy of the last checkpoint, whether or not an earlier one was kept.

    A run kept an earlier one where its end has a last checkpoint beside it: both are at the same step.
    """
    ends = []
    for curve in _curves(method):
        earlier = len(curve) > 1 and curve[-2].step == curve[-1].step
        ends.append(curve[-1].model_copy(update={"accuracy": curve[-2].accuracy}) if earlier else curve[-1])
    return _mean_of(ends)


def mean_way(method: MethodSummary) -> list[tuple[float, float]]:
    """Thousands of tokens and accuracy in per cent on the way to the end: means over runs, at steps that all have."""
    ways = [{one.step: one for one in curve[:-1]} for curve in _curves(method)]
    steps = sorted(set[int].intersection(*map(set, ways)))
    return [_mean_of([way[step] for way in ways]) for step in steps]


def _curves(method: MethodSummary) -> list[Sequence[CostPoint]]:
    return [curve for curve in method.curves.values() if curve]


def _mean_of(points: Sequence[CostPoint]) -> tuple[float, float]:
    return float(np.mean([_tokens(one) for one in points])), float(np.mean([100 * one.accuracy for one in points]))
