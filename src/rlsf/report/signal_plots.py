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
_ROW, _LEFT, _BOTTOM = 0.25, 1.5, 0.5


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

    ``lines``: values marked beside. ``whole_range``: from 0 to 1, so that several drawings have one scale.
    """
    start = _START.get(measure, _CHANCE)
    known = [one for one in signals if study.signals[one].figures[measure].value is not None]
    ranking = study.rankings.get(measure)
    alike = known if ranking is None else ranking.alike
    with house_style():
        height, width = _ROW * max(len(known), 1) + _BOTTOM + (0.3 if lines else 0.08), 4.1
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
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if whole_range:
            axes.set_xlim(0, 1.01)
        axes.set_xlabel(MEASURES[measure].title)
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
    """Dashed lines with their names above the bars."""
    for label, value in lines.items():
        axes.axvline(value, color=BEFORE, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.annotate(
            label,
            (value, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=MUTED,
        )


def kind_histogram(study: SignalStudy, signal: str, kind: str, name: str) -> str:
    """Right and wrong traces of a kind by confidence."""
    bins = [one.model_dump() for one in study.signals[signal].kinds[kind].histogram]
    return histogram_plot(bins, None, name, f"{signal}, {kind}", top=max(b["correct"] + b["wrong"] for b in bins))
