"""Which figures a run has material for, each with its caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rlsf.report.comparison import ACCURACY, ECE, MODE_NAMES, ModeComparison
from rlsf.report.format import number
from rlsf.report.inputs import CheckpointChoice
from rlsf.report.plots import (
    Curve,
    histogram_plot,
    interval_plot,
    reliability_plot,
    risk_coverage_plot,
    series_plot,
)
from rlsf.report.series import PREFERENCES, Series


@dataclass(frozen=True, slots=True)
class Drawing:
    """One SVG under its heading; ``note`` is the number that sums it up."""

    heading: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """Drawings of one kind on one scale, one a decoding mode, with what to look for in them."""

    key: str
    title: str
    caption: str
    drawings: tuple[Drawing, ...]


@dataclass(frozen=True, slots=True)
class _CurveKind:
    key: str
    title: str
    caption: str
    measure: tuple[str, str]
    draw: Callable[..., str]
    height: Callable[[Mapping[str, Any]], float]


_CURVES = (
    _CurveKind(
        "reliability",
        "Reliability",
        "Answers grouped by confidence. On the diagonal, confidence equals accuracy; below it the model is"
        " over-confident, above it too modest. Larger marks hold more questions; thin bars are Wilson's 95\u202f%"
        " intervals.",
        ("ece", "ECE"),
        reliability_plot,
        lambda _: 1.0,
    ),
    _CurveKind(
        "risk_coverage",
        "Risk and coverage",
        "If only the most confident share of the questions is answered, how many of those answers are wrong? A curve"
        " that stays low until far to the right means that confidence knows which answers to withhold.",
        ("aurc", "AURC"),
        risk_coverage_plot,
        lambda point: point["risk"],
    ),
    _CurveKind(
        "histogram",
        "Confidence",
        "Where the confidences lie. Right answers are solid, wrong ones hatched: two heaps apart are useful, one heap"
        " at 1.0 says nothing.",
        ("mean_confidence", "mean"),
        histogram_plot,
        lambda one: one["correct"] + one["wrong"],
    ),
)


def headline_figures(comparisons: Sequence[ModeComparison]) -> list[Drawing]:
    """Accuracy and calibration error of every mode with their intervals."""
    return [
        Drawing(metric.name, Markup(interval_plot(comparisons, metric, f"interval-{metric.key}")))
        for metric in (ACCURACY, ECE)
        if any(mode.cell(metric).before.value is not None for mode in comparisons)
    ]


def curve_rows(summary: Mapping[str, Any]) -> list[FigureRow]:
    """Reliability, risk-coverage and histogram of every decoding mode that has the curve."""
    before: Mapping[str, Any] = summary.get("before") or {}
    after: Mapping[str, Any] = summary.get("after") or {}
    modes = (*MODE_NAMES, *(mode for mode in before if mode not in MODE_NAMES))
    rows = []
    for kind in _CURVES:
        curves = {mode: (_curve(before.get(mode), kind.key), _curve(after.get(mode), kind.key)) for mode in modes}
        heights = [kind.height(one) for pair in curves.values() for curve in pair for one in curve or ()]
        drawings = [
            Drawing(
                heading=MODE_NAMES.get(mode, mode),
                svg=Markup(
                    kind.draw(
                        *pair,
                        f"{kind.key.replace('_', '-')}-{mode.replace('_', '-')}",
                        MODE_NAMES.get(mode, mode),
                        top=max(heights),
                    )
                ),
                note=_note(kind.measure, before[mode], after.get(mode)),
            )
            for mode, pair in curves.items()
            if pair[0]
        ]
        if drawings:
            rows.append(FigureRow(kind.key, kind.title, kind.caption, tuple(drawings)))
    return rows


def training_figures(
    events: Sequence[Mapping[str, Any]],
    checkpoints: Sequence[CheckpointChoice] = (),
    pictures: Sequence[Series] = PREFERENCES,
) -> list[Drawing]:
    """Curves of the measured training events; several rounds follow one another on the axis of steps."""
    offsets = _round_offsets(events)
    rounds = [(offsets.get(place, 0), choice) for place, choice in enumerate(checkpoints, 1)]
    marks = {
        "kept": [before + choice.best_step for before, choice in rounds],
        "stopped": [before + choice.stopped for before, choice in rounds if choice.stopped is not None],
    }
    drawings = []
    for kind in pictures:
        series = {label: _points(events, kind.event, key, offsets) for key, label in kind.keys.items()}
        series = {label: points for label, points in series.items() if len(points) > 1}
        if series:
            title = f"{kind.title} over optimiser steps"
            name = f"training-{len(drawings)}"
            svg = series_plot(series, name, title, unit=kind.unit, share=kind.share, **marks)
            drawings.append(Drawing(kind.title, Markup(svg)))
    return drawings


def _curve(values: Mapping[str, Any] | None, key: str) -> Curve | None:
    return ((values or {}).get("curves") or {}).get(key)


def _note(measure: tuple[str, str], before: Mapping[str, Any], after: Mapping[str, Any] | None) -> str:
    key, name = measure
    values = [one.get(key) for one in (before, after) if one is not None]
    return f"{name} {' → '.join(number(value, 3) for value in values)}"


def _round_offsets(events: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Optimiser steps done before each round: every round counts its own from zero."""
    longest: dict[int, float] = {}
    for event in events:
        if event.get("step") is not None:
            round_ = int(event.get("round") or 1)
            longest[round_] = max(longest.get(round_, 0), event["step"])
    return {round_: sum(steps for other, steps in longest.items() if other < round_) for round_ in longest}


def _points(
    events: Sequence[Mapping[str, Any]], kind: str, key: str, offsets: Mapping[int, float]
) -> list[tuple[float, float]]:
    points = [
        (event["step"] + offsets[int(event.get("round") or 1)], event[key])
        for event in events
        if event.get("event") == kind and event.get("step") is not None and event.get(key) is not None
    ]
    return sorted(points)
