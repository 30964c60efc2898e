"""RLCR: the Brier reward, its optimum and its two forms; answers with a confidence in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers.verbalised import parse_verbalised
from rlsf.errors import InputError
from rlsf.rewards import BrierCalibration


def completion(answer: str, confidence: str, analysis: str = "<analysis>unsure</analysis>\n") -> str:
    return f"<think>3 + 4</think>\n<answer>{answer}</answer>\n{analysis}<confidence>{confidence}</confidence>"


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.7])
def test_the_expectation_is_largest_where_the_confidence_is_the_probability(probability: float) -> None:
    reward = BrierCalibration()
    grid = np.linspace(0, 1, 1001)
    expected = [probability * reward.of(1.0, q) + (1 - probability) * reward.of(0.0, q) for q in grid]
    assert grid[int(np.argmax(expected))] == pytest.approx(probability)
    assert max(expected) == pytest.approx(probability**2)


@given(correct=st.sampled_from([0.0, 1.0]), confidence=st.floats(0, 1))
def test_the_published_form_is_an_affine_map_of_the_papers(correct: float, confidence: float) -> None:
    paper, published = BrierCalibration(), BrierCalibration(form="published")
    assert published.of(correct, confidence) == pytest.approx(paper.of(correct, confidence) / 2 + 1)
    assert published.of(correct, confidence) >= 0.5 > published.malformed
    assert paper.of(correct, confidence) >= -1.0 == paper.malformed


def test_a_batch_by_hand() -> None:
    said: list[Any] = [
        completion("7", "0.9"),
        completion("7.0", "1"),
        completion("8", ".5"),
        "no tags",
        [{"role": "assistant", "content": completion("8", "0.0")}],
    ]
    logged: dict[str, float] = {}
    rewards = BrierCalibration()(said, answer=["7"] * 5, log_metric=logged.__setitem__)
    assert rewards == pytest.approx([1 - 0.01, 1.0, -0.25, -1.0, 0.0])
    assert logged == pytest.approx({"rlcr/malformed": 0.2, "rlcr/accuracy": 0.4, "rlcr/confidence": 0.6})
    assert BrierCalibration(form="published")(said, answer=["7"] * 5) == pytest.approx([1.495, 1.5, 0.875, 0.0, 1.0])


def test_an_option_is_named_by_its_letter_or_its_text() -> None:
    said = [completion(answer, "1") for answer in ("B", "(B)", "12", "9", "B")]
    options = [["9", "12"]] * 4 + [None]
    assert BrierCalibration()(said, answer=["B"] * 5, choices=options) == pytest.approx([1.0, 1.0, 1.0, -1.0, 1.0])
    assert BrierCalibration()(said[2:3], answer=["B"]) == pytest.approx([-1.0])


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", "</think> stands 0 times"),
        (completion("7", "0.5") + " and more", "not in order"),
        (completion("7", "0.5", analysis=""), "<analysis> stands 0 times"),
        (completion("7", "0.5") + completion("8", "0.5"), "stands 2 times"),
        (completion(" ", "0.5"), "answer is empty"),
        (completion("7", "1.5"), "'1.5' is no number from 0 to 1"),
        (completion("7", "90%"), "'90%'"),
        (completion("7", "high"), "'high'"),
        (completion("7", "nan"), "'nan'"),
        (completion("7", "1e-1"), "'1e-1'"),
        ("<answer>7</answer><analysis></analysis><confidence>1</confidence></think>", "not in order"),
    ],
)
def test_malformed(text: str, failure: str) -> None:
    found = parse_verbalised(text)
    assert (found.answer, found.confidence) == (None, None)
    assert failure in (found.failure or "")


def test_well_formed() -> None:
    assert parse_verbalised(completion(" 7 ", " 0.25 "))[:2] == ("7", 0.25)
    assert parse_verbalised(completion("7", "1.0").removeprefix("<think>"))[:2] == ("7", 1.0)
    assert parse_verbalised(completion("7", "0", analysis=""), analysis=False)[:2] == ("7", 0.0)


def test_mistakes() -> None:
    with pytest.raises(InputError, match="gold answers"):
        BrierCalibration()(["x"])
    with pytest.raises(InputError, match="form='log'"):
        BrierCalibration(form="log")  # pyright: ignore[reportArgumentType]
