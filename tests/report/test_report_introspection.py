"""The report and the model card of a run that learned from dialogues with itself."""

from __future__ import annotations

import dataclasses
import re

import pytest

from rlsf.report.figures import training_figures
from rlsf.report.html import render_report
from rlsf.report.inputs import DialogueCounts, ReportInputs
from rlsf.report.method import how, labels, tags
from rlsf.report.model_card import model_card
from rlsf.report.series import INTROSPECTION

FIGURES = {"questions": 40, "turns": 2, "majority": 0.5, "weighted": 0.55, "oracle": 0.7}
BEFORE = {**FIGURES, "accuracy": [0.475, 0.35], "right_to_wrong": [9], "wrong_to_right": [4]}
AFTER = {**FIGURES, "accuracy": [0.9, 0.625], "right_to_wrong": [12], "wrong_to_right": [1]}


def told(inputs: ReportInputs, reward: str = "confidence") -> ReportInputs:
    data = inputs.recipe.model_dump(mode="json")
    changes = {"recipe": "rise-introspection", "introspection": {"reward": reward, "training": {"tau": 0.2}}}
    probe = {"event": "probe", "round": 1, "agreement": 0.5, "agreement_first": 0.6, "agreement_second": 0.4}
    step = {"event": "training", "round": 1, "loss": 1.5, "nll": 0.4, "weight": 1.1, "entropy": 0.3}
    return dataclasses.replace(
        inputs,
        recipe=type(inputs.recipe).model_validate({**data, **changes}),
        rounds=(),
        dialogues=(DialogueCounts(prompts=336, first_successes=121, longer=215, improved=209, examples=551),),
        turns={"before": BEFORE, "after": AFTER},
        events=tuple({**event, "step": at} for at in (1, 2) for event in (step, probe)),
    )


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_turns_stand_side_by_side(inputs: ReportInputs) -> None:
    page = text_of(render_report(told(inputs)))
    for row in ("turn 1 47.5 90.0", "turn 2 35.0 62.5", "oracle (diagnosis) 70.0 70.0", "right to wrong, flips 9 12"):
        assert row in page, row
    assert "prompts 336 first attempt a success 121 asked again 215 earned more then 209 examples 551" in page
    assert "likelihood displacement" not in page.lower()
    assert "Turn by turn" not in text_of(render_report(inputs))


def test_what_was_measured_is_drawn(inputs: ReportInputs) -> None:
    drawn = [drawing.heading for drawing in training_figures(told(inputs).events, (), INTROSPECTION)]
    assert drawn == [
        "Probe: agreement by turn",
        "Loss",
        "Negative log-likelihood",
        "Entropy",
        "Mean weight of a batch",
    ]


@pytest.mark.parametrize(("reward", "labelled"), [("confidence", False), ("gold", True)])
def test_the_method_and_its_labels(inputs: ReportInputs, reward: str, labelled: bool) -> None:
    run = told(inputs, reward)
    named = "gold answers" if labelled else f"confidence ({run.recipe.signal})"
    assert how(run.recipe) == f"reward-weighted regression on dialogues with itself, reward {named}"
    assert ("learned without labels" in labels(run.recipe)) != labelled
    assert ("supervised" in tags(run.recipe)) == labelled
    card = model_card(run)
    assert ("**Labels were used.**" in card) == labelled
    assert "| learned from | 551 examples of dialogues on 336 questions, 215 of them with more than one turn |" in card
    assert "weights exp(reward / 0.2)" in card
    assert "Right answers given up" in card
    assert "preference pairs" not in card.partition("<details>")[0]
