"""The report's section on a reward model: the figures of its evaluation.json, drawn, escaped, or not there at all."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import numpy as np
import pytest

from rlsf.evaluation.reward_accuracy import RewardAccuracy, ScoredPair, reward_accuracy
from rlsf.report.html import render_report
from rlsf.report.inputs import ReportInputs

HOSTILE = "<script>alert('reward & punish')</script>"
SHARE = {"pairs": 40, "accuracy": 0.625, "interval": [0.5, 0.75]}
LENGTH_BIAS = {"balanced": SHARE, "length_accuracy": None, "limit_accuracy": SHARE, "longer_chosen": 0.8125}
LENGTH_BIAS["trained_accuracy"] = SHARE | {"accuracy": 0.75}


def measured() -> RewardAccuracy:
    """Of 60 pairs with rewards that grow with the length."""
    rng = np.random.default_rng(4)
    pairs = []
    for number in range(60):
        chosen, rejected = (int(tokens) for tokens in rng.integers(5, 40, size=2))
        noise = rng.normal(size=2)
        rewards = 0.05 * chosen + noise[0] + 0.7, 0.05 * rejected + noise[1]
        pairs.append(ScoredPair(f"train-{number // 3}", *(float(reward) for reward in rewards), chosen, rejected))
    return reward_accuracy(pairs, resamples=200)


def told(inputs: ReportInputs, **changes: Any) -> ReportInputs:
    data = inputs.recipe.model_dump(mode="json")
    recipe = type(inputs.recipe).model_validate({**data, "reward_model": {}, **changes.pop("recipe", {})})
    step = {"event": "reward_model", "loss": 0.6, "accuracy": 0.7, "margin": 0.4}
    given: dict[str, Any] = {
        "questions": (),  # which take longest to draw
        # As it is read from the file: numbers, lists and null.
        "reward_model": json.loads(json.dumps(measured().model_dump(mode="json"))),
        "events": tuple({**step, "step": at} for at in (1, 2)),
    }
    return dataclasses.replace(inputs, recipe=recipe, **{**given, **changes})


def section(inputs: ReportInputs) -> str:
    page = render_report(inputs)
    start = page.index('<section id="reward-model"')
    return page[start : page.index("</section>", start)]


def rows(part: str) -> dict[str, list[str]]:
    """The table by the names of its rows."""
    found = re.findall(
        r'<tr><th scope="row">(.*?)</th><td class="number">(.*?)</td><td class="number">(.*?)</td>', part
    )
    return {name: [value.replace("\N{MINUS SIGN}", "-") for value in values] for name, *values in found}


def test_the_figures_are_those_that_were_measured(inputs: ReportInputs) -> None:
    found, shown = measured(), rows(section(told(inputs)))
    assert found.interval is not None
    assert found.length_slope is not None
    assert found.length_correlation is not None
    value, bounds = shown["accuracy, % of held-out pairs"]
    assert value == f"{100 * found.accuracy:.1f}"
    assert re.findall(r"[\d.]+", bounds) == [f"{100 * bound:.1f}" for bound in found.interval]
    single = {
        "expected calibration error": f"{found.ece:.3f}",
        "Brier score": f"{found.brier:.3f}",
        "chosen traces longer by, tokens": f"{found.chosen_longer:+.1f}",
        "reward a token, traces of one prompt": f"{found.length_slope:+.4f}",
        "correlation of reward and length there": f"{found.length_correlation:+.2f}",
    }
    assert {name: shown[name] for name in single} == {name: [value, ""] for name, value in single.items()}
    assert f"measured on {found.pairs} pairs of {found.prompts} prompts" in section(told(inputs))


def test_accuracy_by_length_has_its_pairs_and_intervals(inputs: ReportInputs) -> None:
    found, shown = measured(), rows(section(told(inputs)))
    words = {
        "shorter": "where the chosen trace is shorter",
        "equal": "where both are as long",
        "longer": "where the chosen trace is longer",
    }
    assert {"shorter", "longer"} <= {*found.by_length}
    for order, share in found.by_length.items():
        value, bounds = shown[f"{words[order]} ({share.pairs} pairs)"]
        assert value == f"{100 * share.accuracy:.1f}"
        assert share.interval is not None
        assert re.findall(r"[\d.]+", bounds) == [f"{100 * bound:.1f}" for bound in share.interval]
    for group in found.by_difference:
        name = f"chosen longer by {group.least:+d} to {group.most:+d} tokens ({group.pairs} pairs)"
        value, bounds = shown[name.replace("-", "\N{MINUS SIGN}")]
        assert value == f"{100 * group.accuracy:.1f}"
        assert bounds
    absent = {*words} - {*found.by_length}
    assert not any(words[order] in name for order in absent for name in shown)


def test_length_bias_is_told_where_it_was_measured(inputs: ReportInputs) -> None:
    without = told(inputs)
    biased = told(inputs, reward_model={**measured().model_dump(mode="json"), "length_bias": LENGTH_BIAS})
    added = {name: row for name, row in rows(section(biased)).items() if name not in rows(section(without))}
    assert added == {
        "mean of the accuracies where the chosen trace has fewer and more words, %": ["62.5", "50.0\N{EN DASH}75.0"],
        "a trace has the higher reward under the prompt that it obeys, %": ["62.5", "50.0\N{EN DASH}75.0"],
        "the same where limits are broken by better and kept by worse traces alone, %": ["75.0", "50.0\N{EN DASH}75.0"],
        "pairs whose chosen trace has more words, %": ["81.2", ""],
    }, "one share that was not measured is left out"


@pytest.mark.parametrize(("online", "optimised"), [(None, False), ({"rewards": {"reward_model": {}}}, True)])
def test_whether_a_policy_was_optimised_against_it(
    inputs: ReportInputs, online: dict[str, Any] | None, optimised: bool
) -> None:
    part = section(told(inputs, recipe={"online": online}))
    assert ("before the policy was optimised against its score" in part) == optimised
    assert "an accuracy here is agreement with confidence" in part


def test_reliability_and_training_are_drawn(inputs: ReportInputs) -> None:
    part = section(told(inputs))
    headings = re.findall(r"<figcaption>(.*?) <span", part)
    assert headings == ["Reliability", "Loss", "Chosen trace has the higher reward", "Difference of rewards"]
    assert part.count("<svg") == 4
    assert f"ECE {measured().ece:.3f}" in part
    one_step = told(inputs, events=({"event": "reward_model", "step": 1, "loss": 0.6},))
    assert re.findall(r"<figcaption>(.*?) <span", section(one_step)) == ["Reliability"], "a point is no line"


def test_without_held_out_pairs_the_training_alone_is_shown(inputs: ReportInputs) -> None:
    part = section(told(inputs, reward_model=None))
    assert "No pairs were held out to measure it on." in part
    assert "<table" not in part
    assert re.findall(r"<figcaption>(.*?) <span", part)[0] == "Loss"


def test_a_run_without_a_reward_model_has_no_section(inputs: ReportInputs) -> None:
    page = render_report(inputs)
    assert 'id="reward-model"' not in page
    assert "#reward-model" not in page
    assert page.count('href="#training"') == 1
    assert render_report(told(inputs)).count('href="#reward-model"') == 1


def test_what_a_run_says_is_escaped(inputs: ReportInputs) -> None:
    recipe = {"recipe": HOSTILE, "model": {"path": HOSTILE}}
    page = render_report(told(inputs, name=HOSTILE, recipe=recipe, environment={"reward model": HOSTILE}))
    assert "alert(" in page
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
