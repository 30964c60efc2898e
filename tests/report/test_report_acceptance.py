"""The report of a run that trained no policy: loops that accept or try again, side by side."""

from __future__ import annotations

import dataclasses
import re

import pytest

from rlsf.report.acceptance import retry_view
from rlsf.report.html import render_report
from rlsf.report.inputs import ReportInputs
from rlsf.report.method import how, labels

LOOP = {
    "threshold": 0.42,
    "accuracy": 0.8,
    "interval": [0.75, 0.85],
    "mean_rounds": 1.6,
    "mean_tokens": 41.5,
    "answered": 1.0,
    "accuracy_answered": 0.8,
    "p": 0.6,
    "a": 0.9,
    "b": 0.3,
    "precision": 0.818,
    "predicted": 0.793,
    "predicted_rounds": 1.5,
    "cost": {
        "loop": {"calls": 1.6, "written": 41.5, "read": 88.0, "judged": 129.5},
        "same_calls": {"calls": 2.0, "written": 51.0, "read": 110.0, "judged": 161.0},
    },
    "calls": 2,
    "same_calls": {"first": 0.6, "majority": 0.7, "best": 0.75, "oracle": 0.85},
    "differences": {
        "first": {"value": 0.2, "interval": [0.1, 0.3]},
        "majority": {"value": 0.1, "interval": [0.02, 0.18]},
        "best": {"value": 0.05, "interval": [-0.02, 0.12]},
    },
}
UNKNOWN = {**LOOP, "a": None, "b": None, "precision": None, "predicted": None}


def told(inputs: ReportInputs, **acceptance: str) -> ReportInputs:
    """A run of drr: nothing was trained but what accepts."""
    data = inputs.recipe.model_dump(mode="json")
    recipe = type(inputs.recipe).model_validate({**data, "recipe": "drr", "acceptance": acceptance})
    return dataclasses.replace(
        inputs,
        recipe=recipe,
        rounds=(),
        checkpoints=(),
        events=tuple({"event": "acceptance", "step": step, "loss": 0.7 / step} for step in (1, 2, 3)),
        retry={
            "questions": 500,
            "rounds": 4,
            "retry": "independent",
            "by": "model",
            "loops": {"model": LOOP, "confidence": UNKNOWN},
        },
    )


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_loops_stand_side_by_side(inputs: ReportInputs) -> None:
    page = text_of(render_report(told(inputs)))
    for row in (
        "500 questions acceptance model confidence alone",
        "attempts a question 1.60 1.60",
        "right ones accepted, % 90.0",
        "tokens written a question 41.5 41.5",
        "tokens judged a question 129.5",
        "tokens written by these attempts 51.0 51.0",
        "majority of as many attempts, % 70.0 70.0",
    ):
        assert row in page, row
    assert "The policy was not trained" in page
    assert "asked afresh, at most 4 attempts" in page
    assert "Accept or try again" not in text_of(render_report(inputs))


def test_an_evaluation_that_counted_no_cost_is_told_without_it(inputs: ReportInputs) -> None:
    run = told(inputs)
    assert run.retry is not None
    older = {name: value for name, value in LOOP.items() if name != "cost"}
    view = retry_view(dataclasses.replace(run, retry={**run.retry, "loops": {"model": older}}))
    assert view is not None
    assert not any("judged" in name for name, _ in view.rows)


def test_what_is_unknown_is_said_to_be(inputs: ReportInputs) -> None:
    view = retry_view(told(inputs))
    assert view is not None
    rows = dict(view.rows)
    known, unknown = rows["right by the closed form, %"]
    assert known == "79.3"
    assert unknown != known
    assert not any(character.isdigit() for character in unknown)
    assert [drawing.heading for drawing in view.drawings] == ["Loss"]
    assert retry_view(inputs) is None


@pytest.mark.parametrize(("by", "words"), [("model", "an acceptance model of its records"), ("confidence", "own conf")])
def test_how_it_learned_and_from_what(inputs: ReportInputs, by: str, words: str) -> None:
    run = told(inputs, by=by)
    assert words in how(run.recipe)
    assert "frozen policy" in how(run.recipe)
    assert "this is a supervised method" in labels(run.recipe)
    assert "without labels" in labels(told(inputs, by=by, labels="majority").recipe)
