"""The report and the model card of a bound say that it is one, and what it learned from."""

from __future__ import annotations

import dataclasses
import html
import re

import pytest
from online_example import online_inputs

from rlsf.report.html import render_report
from rlsf.report.inputs import DialogueCounts, ReportInputs
from rlsf.report.method import algorithm, bound, how, labels, rewards, tags
from rlsf.report.model_card import model_card

MAJORITY = {"reward": "majority", "select": "success", "attempts": "all", "samples": [10]}
WITHOUT = {"tied": 9, "unanswered": 2, "unusable": 0}


def changed(inputs: ReportInputs, **sections: object) -> ReportInputs:
    data = inputs.recipe.model_dump(mode="json")
    return dataclasses.replace(inputs, recipe=type(inputs.recipe).model_validate({**data, **sections}))


@pytest.fixture(scope="module")
def majority(inputs: ReportInputs) -> ReportInputs:
    probe = {"event": "probe", "round": 1, "agreement": 0.5, "confidence": 0.6, "mean_tokens": 9.0}
    step = {"event": "training", "round": 1, "loss": 0.4, "nll": 0.4, "weight": 1.0, "entropy": 0.3}
    return dataclasses.replace(
        changed(inputs, recipe="sft-majority", introspection=MAJORITY),
        rounds=(),
        dialogues=(DialogueCounts(336, 325, 0, 0, 951, without_majority=WITHOUT),),
        events=tuple({**event, "step": at} for at in (1, 2) for event in (step, probe)),
    )


@pytest.fixture(scope="module")
def by_chance(inputs: ReportInputs) -> ReportInputs:
    ranking = {**inputs.recipe.ranking.model_dump(mode="json"), "order": "random"}
    return changed(inputs, recipe="random-pairs", ranking=ranking)


@pytest.fixture(scope="module")
def gold(inputs: ReportInputs) -> ReportInputs:
    online = online_inputs(inputs, rewards={"correctness": {}})
    return changed(online, recipe="grpo-gold")


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.unescape(page)))


@pytest.mark.parametrize("name", ["majority", "by_chance", "gold"])
def test_a_bound_is_called_one(name: str, request: pytest.FixtureRequest, inputs: ReportInputs) -> None:
    run: ReportInputs = request.getfixturevalue(name)
    sentence = bound(run.recipe)
    assert sentence.startswith("A bound to compare methods with (")
    assert sentence in text_of(render_report(run))
    assert f"**For comparison only.** {sentence}" in model_card(run)
    assert "self-feedback" not in tags(run.recipe)
    assert bound(inputs.recipe) == ""
    assert "For comparison only" not in model_card(inputs)


def test_the_majority(majority: ReportInputs) -> None:
    recipe, card, page = majority.recipe, model_card(majority), text_of(render_report(majority))
    assert how(recipe) == "supervised fine-tuning on its own samples that give the majority's answer"
    assert (algorithm(recipe).tag, rewards(recipe)) == ("sft", "agreement with the majority")
    assert "learned without labels" in labels(recipe)
    counted = "951 samples of 336 questions, without a majority to learn: 9 tied, 2 unanswered, 0 unusable"
    assert f"| learned from | {counted} |" in card
    assert "those were learned that give the answer which most of them give" in card
    assert "The majority may be wrong" in card
    for word in ("dialogue", "exp(reward", "own confidence in them", "Right answers given up", "preference pairs"):
        assert word not in card.partition("<details>")[0], word
    assert "prompts 336 tied 9 unanswered 2 unusable 0 with a majority 325 examples 951" in page
    assert "those of the majority of samples before" in page
    assert "asked again" not in page
    assert "Probe: agreement and confidence" in page


def test_weights_by_majority_are_not_called_fine_tuning(majority: ReportInputs) -> None:
    run = changed(majority, introspection={**MAJORITY, "select": "all"})
    assert how(run.recipe) == "reward-weighted regression on dialogues with itself, reward agreement with the majority"
    assert "attempts count by their agreement with the majority." in model_card(run)


def test_pairs_by_chance(by_chance: ReportInputs) -> None:
    assert how(by_chance.recipe) == "DPO on preference pairs, ranked by chance"
    card = model_card(by_chance)
    assert "several traces of each question were ranked by chance." in card
    assert "| ranking | by chance, all_pairs" in card
    for words in ("ranked by the model's own", "reinforcement learning from self-feedback"):
        assert words not in card, words


def test_right_answers(gold: ReportInputs) -> None:
    assert "**Labels were used.**" in model_card(gold)
    assert how(gold.recipe) == "GRPO, reward correctness"
