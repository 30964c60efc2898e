"""The figures of a study of signals. A filled bar is the best or not separated from it, a hollow one is worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlsf.evaluation.signal_measures import MEASURES
from rlsf.evaluation.signal_schema import SignalStudy
from rlsf.report.plots import histogram_plot
from rlsf.report.svg import AFTER, BEFORE, INK, MUTED, house_style, inline_svg

#: Where the bars of a measure begin: chance, for shares of pairs.
_START = {"surest_accuracy": 0.0, "surest_ece": 0.0, "aurc": 0.0, "saturated": 0.0, "saturated_wrong": 0.0, "tied": 0.0}
_CHANCE = 0.5
#: What an axis that begins at chance counts; the heading says among which traces.
_PAIRS = "Pairs whose right trace is surer"
#: Height of a bar and of a name above the bars, room for the names of signals and for the axis, in inches.
_ROW, _NAME, _LEFT, _BOTTOM = 0.25, 0.14, 1.5, 0.5


def measure_plot(
    study: SignalStudy,
    measure: str,
    name: str,
    signals: Sequence[str],
    lines: Mapping[str, float] | None = None,
    *,
    whole_range: bool = False,
) -> str:
    """One bar a signal with its 95 % interval, from chance on where there is one.

    ``lines``: values marked beside, each with its name.
    ``whole_range``: from 0 to 1, so that several drawings have one scale.
    """
    start = _START.get(measure, _CHANCE)
    known = [one for one in signals if study.signals[one].figures[measure].value is not None]
    ranking = study.rankings.get(measure)
    alike = known if ranking is None else ranking.alike
    with house_style():
        height, width = _ROW * max(len(known), 1) + _BOTTOM + _NAME * len(lines or ()) + 0.08, 4.1
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes(
            (_LEFT / width, _BOTTOM / height, 1 - (_LEFT + 0.12) / width, _ROW * max(len(known), 1) / height)
        )
        for row, signal in enumerate(known):
            _bar(axes, study, measure, signal, row, start, filled=signal in alike)
        _lines(axes, lines or {}, len(known))
        axes.set_yticks(range(len(known)), known)
        axes.set_ylim(len(known) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.axvline(start, color=MUTED, linewidth=0.9)
        axes.grid(visible=False, axis="y")
        # Steps of which chance is a multiple, so that it has a tick.
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter("{x:.3g}")
        if whole_range:
            axes.set_xlim(0, 1.01)
        axes.set_xlabel(_PAIRS if start == _CHANCE else MEASURES[measure].title)
        title = f"{MEASURES[measure].title} by signal with 95 % intervals; filled: the best or not separated from it"
        return inline_svg(figure, name, title)


def _bar(axes: Axes, study: SignalStudy, measure: str, signal: str, row: int, start: float, *, filled: bool) -> None:
    one = study.signals[signal].figures[measure]
    assert one.value is not None
    axes.barh(
        row,
        one.value - start,
        0.62,
        left=start,
        color=AFTER if filled else "none",
        edgecolor=AFTER,
        linewidth=1.2,
        alpha=0.55 if filled else 0.9,
    )
    if one.interval is not None:
        axes.plot(one.interval, [row, row], color=INK, linewidth=1.5, solid_capstyle="butt")


def _lines(axes: Axes, lines: Mapping[str, float], rows: int) -> None:
    """Dashed lines, each up to its name above the bars.

    A name ends at its line; that of the greater value stands higher, where the other line no longer is, so that near
    values keep names that neither overlap nor can be taken for each other's.
    """
    for place, (label, value) in enumerate(sorted(lines.items(), key=lambda line: line[1])):
        top = 1 + _NAME * (place + 1) / (_ROW * rows)
        axes.axvline(value, ymax=top, color=BEFORE, linewidth=1.2, linestyle=(0, (4, 2)), clip_on=False)
        axes.annotate(
            label,
            (value, top),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-3, 0),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8,
            color=MUTED,
        )


def kind_histogram(study: SignalStudy, signal: str, kind: str, name: str) -> str:
    """Right and wrong traces of a kind by confidence."""
    bins = [one.model_dump() for one in study.signals[signal].kinds[kind].histogram]
    return histogram_plot(bins, None, name, f"{signal}, {kind}", top=max(b["correct"] + b["wrong"] for b in bins))
