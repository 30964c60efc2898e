"""Figures: small, deterministic, themed, and safe to put side by side in one page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from rlsf.report.comparison import compare
from rlsf.report.figures import Drawing, curve_rows, headline_figures, training_figures
from rlsf.report.inputs import CheckpointChoice, ReportInputs
from rlsf.report.svg import PALETTE, house_style, inline_svg

_DRAW = """
from rlsf.report.plots import reliability_plot, histogram_plot
point = {"lower": 0.5, "upper": 1.0, "count": 7, "mean_confidence": 0.8, "accuracy": 0.5, "interval": (0.3, 0.7),
         "correct": 3, "wrong": 4}
print(reliability_plot([point], [point], "a", "Greedy"), histogram_plot([point], None, "b", "Greedy", top=7))
"""


def drawings(inputs: ReportInputs) -> list[Drawing]:
    assert inputs.summary is not None
    rows = curve_rows(inputs.summary)
    return [
        *headline_figures(compare(inputs.summary)),
        *(drawing for row in rows for drawing in row.drawings),
        *training_figures(inputs.events, inputs.checkpoints),
    ]


def test_every_figure_is_small_and_titled(inputs: ReportInputs) -> None:
    drawn = drawings(inputs)
    assert len(drawn) == 2 + 3 * 3 + 6
    for drawing in drawn:
        assert len(drawing.svg.encode()) < 60_000
        root = ElementTree.fromstring(drawing.svg)
        title = root[0]
        assert root.get("role") == "img"
        assert root.get("aria-labelledby") == title.get("id")
        assert title.text


def test_ids_are_unique_over_all_figures_and_every_reference_resolves(inputs: ReportInputs) -> None:
    page = "".join(drawing.svg for drawing in drawings(inputs))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 20
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert references
    assert references <= set(ids)


def test_every_colour_can_be_themed(inputs: ReportInputs) -> None:
    page = "".join(drawing.svg for drawing in drawings(inputs))
    themed = re.findall(r"var\(--(\w+), (#[0-9a-f]{6})\)", page)
    assert len(themed) > 100
    assert all(PALETTE[name] == colour for name, colour in themed)
    bare = re.sub(r"var\(--\w+, #[0-9a-f]{6}\)", "", page)
    assert re.findall(r"(?:fill|stroke): #[0-9a-fA-F]{3,6}", bare) == []


def test_a_colour_outside_the_palette_would_be_seen() -> None:
    with house_style():
        figure = Figure()
        figure.subplots().plot([0, 1], [0, 1], color="#123456")
        assert "stroke: #123456" in inline_svg(figure, "probe", "a stray colour")


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_same_bytes_in_every_process(seed: str) -> None:
    drawn = [
        subprocess.run(
            [sys.executable, "-c", _DRAW],
            env={**os.environ, "PYTHONHASHSEED": value},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for value in (seed, "42")
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0].startswith("<svg")
    assert "<metadata" not in drawn[0]


def test_rounds_follow_one_another_and_the_kept_step_is_marked() -> None:
    events = [
        {"event": "training", "round": round_, "step": step, "loss": 1.0 / step}
        for round_ in (1, 2)
        for step in range(1, 41)
    ]
    kept = (CheckpointChoice(40, 20, "best"), CheckpointChoice(40, 40, "best"))
    (drawing,) = training_figures(events, kept)
    plain = training_figures(events)[0].svg
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", drawing.svg)
    assert "80" in labels  # 40 steps of round 1, then 40 of round 2
    dotted = "stroke-dasharray: 1,2"
    assert (drawing.svg.count(dotted), plain.count(dotted)) == (2, 0)


def test_events_without_numbers_give_no_figure() -> None:
    assert training_figures([{"event": "sampling", "seconds": 3.0}, {"event": "training", "step": 1}]) == []
    assert training_figures([{"event": "training", "step": 1, "loss": None}]) == []
