"""The report and the model card of a run that learned online."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest
import yaml
from online_example import online_inputs

from rlsf.report.figures import training_figures
from rlsf.report.html import render_report
from rlsf.report.inputs import CheckpointChoice, ReportInputs
from rlsf.report.model_card import model_card
from rlsf.report.series import online_series


@pytest.fixture(scope="module")
def online(inputs: ReportInputs) -> ReportInputs:
    return online_inputs(inputs)


@pytest.fixture(scope="module")
def supervised(inputs: ReportInputs) -> ReportInputs:
    return online_inputs(inputs, rewards={"correctness": {}, "token_entropy": {"weight": 0.5}}, algorithm="rloo")


def titles(inputs: ReportInputs) -> list[str]:
    return [drawing.heading for drawing in training_figures(inputs.events, (), online_series(inputs.events))]


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


def test_every_quantity_that_was_measured_has_a_picture_of_its_own(online: ReportInputs) -> None:
    assert titles(online) == [
        "Probe: agreement and confidence",
        "Reward: self certainty",
        "Spread of rewards in a batch",
        "Groups of equal rewards",
        "Entropy",
        "Length of a completion",
        "Completions that agree in a group",
        "Commonest answer of all",
        "Without an answer",
        "Cut at the token budget",
        "Repeated runs of four tokens",
    ]


def test_what_belongs_to_a_method_is_drawn_where_it_was_logged(online: ReportInputs) -> None:
    own = {
        "kl": 0.1,
        "nft/pass_rate": 0.5,
        "rlcr/confidence": 0.7,
        "rlcr/accuracy": 0.4,
        "rewards/TokenEntropy/mean": -1,
    }
    graded = {"verification/solve_accuracy": 0.5, "verification/grade_accuracy": 0.6}
    events = [{**event, **own, **graded} if event["event"] == "training" else event for event in online.events]
    found = titles(dataclasses.replace(online, events=tuple(events)))
    assert found[:4] == [
        "Probe: agreement and confidence",
        "Reward, weighted sum",
        "Reward: self certainty",
        "Reward: token entropy",
    ]
    assert found[-4:] == [
        "Divergence from the start (KL)",
        "NFT: pass rate",
        "Confidence in words and accuracy",
        "Accuracy of solutions and of grades",
    ]


def test_the_probe_of_one_event_is_not_mixed_with_the_rollouts_of_another(online: ReportInputs) -> None:
    """Both kinds of event hold an entropy, of greedy and of sampled completions."""
    changed = [{**event, "entropy": 5.0} if event["event"] == "training" else event for event in online.events]
    pictures = online_series(online.events)
    assert training_figures(online.events, (), pictures) == training_figures(changed, (), pictures)


def test_axes_have_units_and_both_marks_differ_by_more_than_colour(online: ReportInputs) -> None:
    drawn = training_figures(online.events, online.checkpoints, online_series(online.events))
    labels = [re.findall(r"<text[^>]*>([^<]+)</text>", drawing.svg) for drawing in drawn]
    for of_drawing, unit in zip(
        labels, ("held-out prompts", "nats a token", "standard deviation", "of groups"), strict=False
    ):
        assert unit in of_drawing
        assert "Optimiser step" in of_drawing
        assert "stopped" in of_drawing
    for drawing in drawn:
        assert drawing.svg.count('stroke-dasharray: 1,2"') + drawing.svg.count("stroke-dasharray: 1,2;") == 1
        assert len(drawing.svg.encode()) < 60_000
    going_on = [dataclasses.replace(choice, stopped=None) for choice in online.checkpoints]
    assert all("stopped" not in drawing.svg for drawing in training_figures(online.events, going_on))


def test_a_stop_is_told_by_the_reason_that_the_guard_gives() -> None:
    from rlsf.training.guard import Guard
    from rlsf.training.guard_config import GuardConfig

    collapsed, patient, fine = (Guard(GuardConfig(patience=1)) for _ in range(3))
    collapsed.add(0, {"agreement": 0.6, "truncated": 0.0, "prompts": 64})
    collapsed.add(10, {"agreement": 0.7, "truncated": 0.9, "prompts": 64})
    patient.add(0, {"agreement": 0.6})
    patient.add(10, {"agreement": 0.59})
    fine.add(0, {"agreement": 0.6})
    fine.add(10, {"agreement": 0.61})
    assert ["stopped" in guard.explain() for guard in (collapsed, patient, fine)] == [True, True, False]


def test_the_page_tells_from_prompts_to_steps_and_what_the_guard_said(online: ReportInputs) -> None:
    html = render_report(online)
    flow = re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", html[html.index('class="flow"') :])[:5]
    assert dict(flow) == {
        "prompts": "80",
        "completions a prompt": "8",
        "completions": "640",
        "optimiser steps": "40",
        "step kept": "20",
    }
    page = text_of(html)
    assert "Learned by GRPO, reward self_certainty" in page
    assert "The guard, which looks at no label, gives the reason: stopped at step 40: entropy is 0.02" in page
    assert "the line of dots and dashes the one at which training was stopped" in page
    assert "preference pairs" not in page[page.index("Training") : page.index("Traces")]
    assert "Watch the log-probabilities" not in page


def test_labels_are_told_beside_the_headline_and_with_the_recipe(
    inputs: ReportInputs, online: ReportInputs, supervised: ReportInputs, measured_only: ReportInputs
) -> None:
    free, learned = (
        "It learned without labels: gold answers of the prompts were not read",
        "It learned from gold answers",
    )
    for one in (inputs, online):
        page = text_of(render_report(one))
        assert page.count(free) == 2
        assert learned not in page
    page = text_of(render_report(supervised))
    assert page.count(f"{learned} (reward correctness): this is a supervised method, not self-feedback.") == 2
    assert free not in page
    assert "no evidence of what a model can learn from itself" in page
    page = text_of(render_report(measured_only))
    assert free not in page
    assert learned not in page


def card_tags(inputs: ReportInputs) -> list[str]:
    return yaml.safe_load(model_card(inputs).split("---\n")[1])["tags"]


def test_the_card_names_the_algorithm_and_not_dpo(online: ReportInputs, supervised: ReportInputs) -> None:
    assert card_tags(online) == ["rlsf", "trl", "grpo", "self-feedback", "calibration"]
    assert card_tags(supervised) == ["rlsf", "trl", "rloo", "supervised", "calibration"]
    card = model_card(online)
    for phrase in (
        "GRPO ([arXiv 2402.03300](https://arxiv.org/abs/2402.03300)) from rewards of its own completions (self_certa",
        "recipe\n`intuitor` (arXiv 2505.19590)",
        "**No labels were used.**",
        "| objective | GRPO, reward self_certainty, beta 0.0, learning rate 3e-05 |",
        "| learned from | 640 completions of 80 questions in 40 optimiser steps |",
        "stopped at step 40: entropy is 0.02",
        "Self-reward collapse",
    ):
        assert phrase in card, phrase
    for phrase in ("preference pairs", "preference loss", "DPO"):
        assert phrase not in card.split("```yaml")[0], phrase
    assert "Likelihood displacement" not in card


def test_the_card_of_a_supervised_policy_says_so(supervised: ReportInputs) -> None:
    card = model_card(supervised)
    assert "**Labels were used.** Gold answers of the questions were learned from: this is a supervised method" in card
    assert "No labels were used" not in card
    assert "Self-reward collapse" not in card
    assert "reward 0.5 x token_entropy + correctness" in card


def test_a_warm_up_is_told_for_what_is_called_before_comes_after_it(inputs: ReportInputs, online: ReportInputs) -> None:
    taught = online_inputs(inputs, rewards={"brier_calibration": {}})
    assert taught.recipe.online is not None
    warm_up = taught.recipe.online.warm_up.model_copy(update={"steps": 30})
    recipe = taught.recipe.model_copy(update={"online": taught.recipe.online.model_copy(update={"warm_up": warm_up})})
    taught = dataclasses.replace(taught, recipe=recipe)
    assert "A warm-up of 30 steps on the policy's own completions" in text_of(render_report(taught))
    assert "| warm-up | 30 steps on its own completions" in model_card(taught)
    assert "A warm-up of" not in text_of(render_report(online))
    assert "| warm-up |" not in model_card(online)


def test_a_training_that_is_not_finished_is_drawn_without_marks(online: ReportInputs) -> None:
    page = text_of(render_report(dataclasses.replace(online, checkpoints=(), rollouts=None)))
    assert "The probe asks held-out prompts" in page
    assert "dotted line" not in page


@pytest.mark.parametrize("share", [0.0, 0.0003, 0.5, 1.0])
def test_small_shares_keep_their_digits(share: float) -> None:
    events: list[dict[str, Any]] = [
        {"event": "training", "step": step, "rollouts/repetition": share * step / 2} for step in (1, 2)
    ]
    (drawing,) = training_figures(events, (CheckpointChoice(2, 2, "last"),), online_series(events))
    ticks = re.findall(r"<text[^>]*>([\d.\u2212-]+)\u202f%</text>", drawing.svg)
    assert len(ticks) >= 2
    assert len(set(ticks)) == len(ticks), "no two ticks read the same"
    assert all(math.isfinite(float(tick)) and len(tick) <= 5 for tick in ticks)
