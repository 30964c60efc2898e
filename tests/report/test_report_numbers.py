"""Numbers, comparisons and the verdict computed from them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.report.comparison import ACCURACY, AUROC, ECE, HEADLINE, TOKENS, Cell, Estimate, Metric, compare
from rlsf.report.format import MISSING, count, interval, number
from rlsf.report.inputs import ReportInputs
from rlsf.report.limits import GENERAL, SELF_TAUGHT, SUPERVISED, limits
from rlsf.report.verdict import remarks, verdict


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (0.1264, 3, False, "0.126"),
        (-0.0321, 3, True, "−0.032"),
        (32.25, 1, True, "+32.2"),
        (-0.0001, 3, True, "0.000"),
        (0.0001, 3, True, "0.000"),
        (None, 3, False, MISSING),
        (math.nan, 3, False, MISSING),
    ],
)
def test_numbers_have_fixed_digits_and_true_signs(value: float | None, digits: int, signed: bool, text: str) -> None:
    assert number(value, digits, signed=signed) == text


def test_intervals_use_a_dash_only_where_no_sign_stands_in_the_way() -> None:
    assert interval((0.0984, 0.1512), 3) == "0.098–0.151"
    assert interval((-0.0552, 0.0101), 3, signed=True) == "−0.055 to +0.010"
    assert interval((-0.5, 0.5), 1) == "−0.5 to 0.5"
    assert interval(None, 3) == ""


def test_counts_are_grouped_from_ten_thousand_on() -> None:
    assert [count(1752), count(12345), count(1234567)] == ["1752", "12\u202f345", "1\u202f234\u202f567"]


def test_units() -> None:
    assert ACCURACY.value(0.5525) == "55.2\u202f%"
    assert ACCURACY.bounds((0.508, 0.594)) == "50.8–59.4"
    assert ACCURACY.change(0.322) == "+32.2"
    assert AUROC.value(None) == MISSING
    assert TOKENS.value(35.44) == "35.4"


def _cell(metric: Metric, low: float, high: float) -> Cell:
    return Cell(metric, Estimate(0.5), Estimate(0.6), Estimate((low + high) / 2, (low, high)))


@pytest.mark.parametrize(
    ("metric", "low", "high", "judgement"),
    [
        (ACCURACY, 0.01, 0.2, "better"),
        (ACCURACY, -0.2, -0.01, "worse"),
        (ACCURACY, 0.0, 0.2, "unclear"),
        (ECE, 0.01, 0.2, "worse"),
        (ECE, -0.2, -0.01, "better"),
        (ECE, -0.2, 0.0, "unclear"),
        (TOKENS, 10.0, 20.0, "neutral"),
        (ECE, 1e-8, 3e-8, "unclear"),
        (ECE, 0.0004, 0.0008, "worse"),
        (ACCURACY, 0.0001, 0.0005, "unclear"),
        (ACCURACY, 0.0004, 0.0008, "better"),
    ],
)
def test_a_change_is_real_only_where_the_paired_interval_excludes_zero(
    metric: Metric, low: float, high: float, judgement: str
) -> None:
    assert _cell(metric, low, high).judgement == judgement


@given(st.floats(-1, 1), st.floats(-1, 1), st.sampled_from([metric for metric in HEADLINE if metric.direction]))
def test_turning_the_difference_round_turns_the_judgement_round(a: float, b: float, metric: Metric) -> None:
    low, high = sorted((a, b))
    opposite = {"better": "worse", "worse": "better", "unclear": "unclear"}
    assert _cell(metric, -high, -low).judgement == opposite[_cell(metric, low, high).judgement]


def test_without_an_interval_nothing_is_claimed() -> None:
    assert Cell(ACCURACY, Estimate(0.5), Estimate(0.9), Estimate(0.4, None)).judgement == "unclear"
    assert Cell(ACCURACY, Estimate(0.5), Estimate(0.9), None).judgement == "unclear"


def _mode(accuracy: float, ece: float, auroc: float | None = 0.8, tokens: float = 10.0) -> dict[str, Any]:
    return {
        "n": 500,
        "accuracy": accuracy,
        "ece": ece,
        "brier": 0.2,
        "auroc": auroc,
        "mean_tokens": tokens,
        "intervals": {"accuracy": [accuracy - 0.04, accuracy + 0.04], "auroc": auroc and [auroc - 0.1, auroc + 0.1]},
    }


def _summary(accuracy: tuple[float, float], ece: tuple[float, float], **after: Any) -> dict[str, Any]:
    def difference(before: float, later: float, half: float) -> dict[str, Any]:
        change = later - before
        return {"value": change, "interval": [change - half, change + half], "probability_of_improvement": 0.5}

    return {
        "before": {"greedy": _mode(accuracy[0], ece[0]), "cot_decoding": _mode(0.91, 0.08)},
        "after": {"greedy": _mode(accuracy[1], ece[1], **after), "cot_decoding": _mode(0.92, 0.08)},
        "difference": {
            "greedy": {"accuracy": difference(*accuracy, 0.05), "ece": difference(*ece, 0.02)},
            "cot_decoding": {},
        },
    }


@pytest.mark.parametrize(
    ("accuracy", "ece", "words"),
    [
        ((0.552, 0.874), (0.126, 0.094), ["improved", "improved"]),
        ((0.552, 0.572), (0.126, 0.136), ["shows no distinguishable change"] * 2),
        ((0.552, 0.020), (0.126, 0.300), ["got worse", "got worse"]),
    ],
)
def test_verdict_on_accuracy_and_calibration(
    accuracy: tuple[float, float], ece: tuple[float, float], words: list[str]
) -> None:
    findings = verdict(compare(_summary(accuracy, ece)))
    assert [finding.subject for finding in findings] == ["Accuracy", "Calibration"]
    assert [finding.word for finding in findings] == words
    assert findings[0].before == "55.2\u202f%"


def test_remarks_name_the_latent_accuracy_and_the_length() -> None:
    sentences = " ".join(remarks(compare(_summary((0.552, 0.874), (0.126, 0.094), tokens=35.0))))
    assert "CoT-decoding reached 91.0\u202f% on the model before training" in sentences
    assert "greedy decoding now reaches 87.4\u202f% (−3.6 points)" in sentences  # 87.4 - 91.0
    assert "10.0 tokens on average before, 35.0 after (3.50 times)" in sentences


def test_a_difference_that_was_not_measured_is_not_judged() -> None:
    summary = _summary((0.5, 0.9), (0.1, 0.1))
    summary["difference"] = None
    assert [finding.word for finding in verdict(compare(summary))] == ["cannot be compared"] * 2


def test_modes_come_in_the_order_of_the_table(inputs: ReportInputs) -> None:
    assert inputs.summary is not None
    shuffled = {**inputs.summary, "before": dict(reversed(inputs.summary["before"].items()))}
    assert [mode.mode for mode in compare(shuffled)] == ["greedy", "cot_decoding", "majority"]


def test_limits_name_truncation_saturation_and_a_blind_signal() -> None:
    mode = _mode(0.5, 0.4, auroc=0.52) | {
        "truncated": 50,
        "without_answer": 4,
        "without_confidence": 30,
        "curves": {
            "histogram": [
                {"lower": 0.0, "upper": 0.95, "correct": 20, "wrong": 10},
                {"lower": 0.95, "upper": 1.0, "correct": 240, "wrong": 230},
            ]
        },
    }
    sentences = limits({"before": {"greedy": mode}, "after": None})
    assert "Cut at the token budget, so that accuracy may be understated: Greedy 50 of 500." in sentences
    assert "Answered without a confidence, which counts as confidence 0: Greedy 30 of 500." in sentences
    assert not any("Without an answer" in sentence for sentence in sentences)  # 4 of 500 are below one per cent
    assert any("94\u202f% of the answers have a confidence above 0.95" in sentence for sentence in sentences)  # 470/500
    assert any("does not reliably tell right answers from wrong ones" in sentence for sentence in sentences)
    assert sentences[-len(GENERAL) :] == list(GENERAL)


def test_limits_without_any_measurement_say_so() -> None:
    assert limits(None)[0].startswith("Nothing was measured")


def test_questions_that_were_learned_from_come_first_among_the_limits() -> None:
    summary = {"before": {"greedy": {"n": 4}}, "after": None}
    assert limits(summary, learned_questions=3)[0].startswith("3 of the questions measured were also learned from")
    assert limits(summary) == [SELF_TAUGHT, *GENERAL]
    supervised = limits(summary, learned_questions=3, supervised=True)
    assert "with their answers" in supervised[0]
    assert supervised[1:] == [SUPERVISED, *GENERAL]
