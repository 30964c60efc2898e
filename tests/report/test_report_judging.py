"""Where a judge ranks traces, report and model card say so, and of what the calibration was measured."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from rlsf.recipes import resolve
from rlsf.report.html import render_report
from rlsf.report.inputs import ReportInputs
from rlsf.report.method import judged_by
from rlsf.report.model_card import model_card


def judged(inputs: ReportInputs, **changes: Any) -> ReportInputs:
    data = {**inputs.recipe.model_dump(mode="json"), "signal": "trace_confidence", "judge": {}, **changes}
    return dataclasses.replace(inputs, recipe=type(inputs.recipe).model_validate(data))


def header(inputs: ReportInputs) -> str:
    page = render_report(inputs)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page[page.index("<header") : page.index("</header")]))


def said(card: str) -> str:
    return re.sub(r"\s+", " ", card.partition("<details>")[0])


def test_ranking_and_calibration_are_told_apart(inputs: ReportInputs) -> None:
    assert "Ranked by P(True), answer, raw Calibration of trace_confidence" in header(
        judged(inputs, judge={"confidence": "answer", "probability": "raw"})
    )
    card = said(model_card(judged(inputs)))
    by = "P(True), composite, renormalised"
    assert f"were ranked by how probable the model itself calls it that they are right ({by})." in card
    assert "2505.17454" in card
    assert f"Confidence is the signal `trace_confidence` (traces to learn from were ranked by {by}" in card
    assert f"| ranking | by {by}, all_pairs" in card
    assert "ranked by the model's own confidence" not in card


def test_without_a_judge_the_signal_is_both(inputs: ReportInputs) -> None:
    assert "Confidence answer_disparity" in header(inputs)
    assert "Ranked by" not in header(inputs)
    card = said(model_card(inputs))
    assert "were ranked by the model's own confidence in them (signal `answer_disparity`)." in card
    assert "P(True)" not in card


def test_a_model_that_is_measured_alone_was_ranked_by_nothing(measured_only: ReportInputs) -> None:
    assert "Ranked by" not in header(judged(measured_only))
    assert "Confidence trace_confidence" in header(judged(measured_only))


@pytest.mark.parametrize(("name", "by"), [("core-po", "P(True), composite, renormalised"), ("rlsf", ""), ("rc-rm", "")])
def test_shipped_recipes(name: str, by: str) -> None:
    assert judged_by(resolve(name)) == by


def test_a_judge_that_ranks_nothing_is_not_named() -> None:
    recipe = resolve("intuitor")
    assert judged_by(type(recipe).model_validate({**recipe.model_dump(mode="json"), "judge": {}})) == ""
