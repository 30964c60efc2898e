"""The page of a study of signals: well-formed, escaped, with the study's numbers, whole and with figures missing."""

from __future__ import annotations

import re

import pytest
from signal_example import example_facts, example_study
from test_report_html import HOSTILE, Page

from rlsf.evaluation.signal_measures import MEASURES
from rlsf.evaluation.signal_schema import SignalStudy
from rlsf.report.signal_page import by_auroc, cell, render_signal_page
from rlsf.report.signal_plots import measure_plot


@pytest.fixture(scope="module")
def study() -> SignalStudy:
    return example_study()


@pytest.fixture(scope="module")
def html(study: SignalStudy) -> str:
    return render_signal_page(study, example_facts())


def names(svg: str) -> list[tuple[str, float, float]]:
    """Text, end and height of the names of lines in a drawing."""
    found = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>(greedy|majority)<', svg)
    return [(name, float(x), float(y)) for x, y, name in found]


def test_the_page_is_well_formed_and_loads_nothing(html: str) -> None:
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert (page.mismatched, page.open, page.handlers, page.scripts) == ([], [], [], [])
    assert page.references == ["data:,"]
    assert len(page.ids) == len(set(page.ids))
    assert {anchor[1:] for anchor in page.anchors} <= set(page.ids)


def test_every_figure_of_every_signal_is_there(study: SignalStudy, html: str) -> None:
    for name in study.signals:
        rows = re.findall(rf'<tr><th scope="row">{name}</th>(.*?)</tr>', html)
        for measure in MEASURES:
            one = cell(study, name, measure)
            weight = " leads" if one.leads else ""
            said = f'<td class="number{weight}">{one.text}<span class="interval">{one.bounds}</span></td>'
            assert any(said in row for row in rows), (name, measure)


def test_every_measure_and_every_setting_is_defined(study: SignalStudy, html: str) -> None:
    defined = Page(html[html.index('id="definitions"') :]).text
    for measure in MEASURES.values():
        assert measure.definition in defined
    assert f"saturation{study.settings.saturation}." in defined
    assert f"tie{study.settings.tie}." in defined
    assert f"resamples{study.settings.resamples}." in defined


def test_what_answers_a_question_is_said_and_how_often_it_is_right(html: str) -> None:
    said = Page(html).text
    assert re.search(r"Answered rightly: a trace at random [\d.]+\s%.* greedy .*, the majority .*, any trace ", said)


def test_texts_of_others_are_shown_literally(study: SignalStudy) -> None:
    page = Page(render_signal_page(study, example_facts(HOSTILE)))
    assert (page.mismatched, page.open, page.handlers, page.scripts, page.references) == ([], [], [], [], ["data:,"])
    assert page.text.count("<script>alert(1)</script>") >= 6


def test_one_signal_is_compared_with_no_other() -> None:
    page = Page(render_signal_page(example_study(skill={"judge": 1.0}), example_facts()))
    assert (page.mismatched, page.open) == ([], [])
    assert "there is no other to compare" in page.text
    assert "differences" not in page.ids
    assert {anchor[1:] for anchor in page.anchors} <= set(page.ids)


def test_without_a_wrong_trace_there_is_nothing_to_draw_of_telling_right_from_wrong() -> None:
    html = render_signal_page(example_study(12, everything_right=True), example_facts())
    page = Page(html)
    assert (page.mismatched, page.open) == ([], [])
    assert "no signal can be told to know the difference" in page.text
    assert html.count("Pairs whose right trace is surer") == 0
    assert html.count("<svg") == 2 + 8
    assert {anchor[1:] for anchor in page.anchors} <= set(page.ids)


@pytest.mark.parametrize("values", [(0.50, 0.51), (0.7, 0.7), (0.02, 0.99), (0.8, 0.3)])
def test_names_of_lines_end_at_their_lines_in_rows_of_their_own(
    study: SignalStudy, values: tuple[float, float]
) -> None:
    lines = dict(zip(("greedy", "majority"), values, strict=True))
    svg = measure_plot(study, "surest_accuracy", "drawing", by_auroc(study), lines, whole_range=True)
    found = {name: (x, y) for name, x, y in names(svg)}
    assert set(found) == set(lines)
    lower, higher = sorted(lines, key=lambda name: lines[name])
    assert found[lower][1] - found[higher][1] > 9
    assert found[lower][0] <= found[higher][0]


def test_chance_has_a_tick(study: SignalStudy) -> None:
    svg = measure_plot(study, "auroc", "drawing", by_auroc(study))
    assert re.search(r">0\.5</text>", svg)
