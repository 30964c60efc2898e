"""Which figures a run has material for, each with its caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rlsf.report.comparison import ACCURACY, ECE, MODE_NAMES, Metric, ModeComparison
from rlsf.report.plots import histogram_plot, interval_plot, reliability_plot, risk_coverage_plot, series_plot


@dataclass(frozen=True, slots=True)
class Drawing:
    """One SVG under its heading."""

    heading: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class FigureRow:
    """Drawings of one kind, one a decoding mode, with what to look for in them."""

    key: str
    title: str
    caption: str
    drawings: tuple[Drawing, ...]


_CURVES: tuple[tuple[str, str, str, Callable[..., str]], ...] = (
    (
        "reliability",
        "Reliability",
        "Answers grouped by confidence. On the diagonal, confidence equals accuracy; below it the model is"
        " over-confident, above it too modest. The area of a mark is its share of the questions, the band Wilson's"
        " 95 % interval of its accuracy.",
        reliability_plot,
    ),
    (
        "risk_coverage",
        "Risk and coverage",
        "If only the most confident share of the questions is answered, how many of those answers are wrong? A curve"
        " that rises from zero means that confidence knows which answers to withhold.",
        risk_coverage_plot,
    ),
    (
        "histogram",
        "Confidence",
        "Where the confidences lie. Right answers are solid, wrong ones hatched: two heaps apart are useful, one heap"
        " at 1.0 says nothing.",
        histogram_plot,
    ),
)

#: Training curves: title, keys of the event with their labels, whether the values are proportions.
_SERIES: tuple[tuple[str, dict[str, str], bool], ...] = (
    ("Loss", {"loss": "loss"}, False),
    ("Chosen trace preferred", {"rewards/accuracies": "accuracy"}, True),
    ("Reward margin", {"rewards/margins": "margin"}, False),
    ("Log-probability of the traces (nats)", {"logps/chosen": "chosen", "logps/rejected": "rejected"}, False),
    ("Agreement on unlabelled held-out prompts", {"agreement": "agreement"}, True),
    ("Tokens per probe answer", {"mean_tokens": "tokens"}, False),
)


def headline_figures(comparisons: Sequence[ModeComparison]) -> list[Drawing]:
    """Accuracy and calibration error of every mode with their intervals."""
    metrics: tuple[Metric, ...] = (ACCURACY, ECE)
    return [
        Drawing(metric.name, Markup(interval_plot(comparisons, metric, f"interval-{metric.key}")))
        for metric in metrics
        if any(mode.cell(metric).before.value is not None for mode in comparisons)
    ]


def curve_rows(summary: Mapping[str, Any]) -> list[FigureRow]:
    """Reliability, risk-coverage and histogram of every decoding mode that has the curve."""
    before: Mapping[str, Any] = summary.get("before") or {}
    after: Mapping[str, Any] = summary.get("after") or {}
    rows = []
    for key, title, caption, draw in _CURVES:
        drawings = []
        for mode in (*MODE_NAMES, *(mode for mode in before if mode not in MODE_NAMES)):
            curve = _curve(before.get(mode), key)
            if curve:
                name = MODE_NAMES.get(mode, mode)
                identity = f"{key.replace('_', '-')}-{len(drawings)}"
                drawings.append(Drawing(name, Markup(draw(curve, _curve(after.get(mode), key), identity, name))))
        if drawings:
            rows.append(FigureRow(key, title, caption, tuple(drawings)))
    return rows


def training_figures(events: Sequence[Mapping[str, Any]]) -> list[Drawing]:
    """Curves of the measured training events; several rounds follow one another on the axis of steps."""
    offsets = _round_offsets(events)
    drawings = []
    for title, keys, share in _SERIES:
        series = {label: _points(events, key, offsets) for key, label in keys.items()}
        series = {label: points for label, points in series.items() if len(points) > 1}
        if series:
            svg = series_plot(series, f"training-{len(drawings)}", f"{title} over optimiser steps", share=share)
            drawings.append(Drawing(title, Markup(svg)))
    return drawings


def _curve(values: Mapping[str, Any] | None, key: str) -> Sequence[Mapping[str, Any]] | None:
    return ((values or {}).get("curves") or {}).get(key)


def _round_offsets(events: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Optimiser steps done before each round: every round counts its own from zero."""
    longest: dict[int, float] = {}
    for event in events:
        if event.get("step") is not None:
            round_ = int(event.get("round") or 1)
            longest[round_] = max(longest.get(round_, 0), event["step"])
    return {round_: sum(steps for other, steps in longest.items() if other < round_) for round_ in longest}


def _points(events: Sequence[Mapping[str, Any]], key: str, offsets: Mapping[int, float]) -> list[tuple[float, float]]:
    points = [
        (event["step"] + offsets[int(event.get("round") or 1)], event[key])
        for event in events
        if event.get("event") in ("training", "probe") and event.get("step") is not None and event.get(key) is not None
    ]
    return sorted(points)
