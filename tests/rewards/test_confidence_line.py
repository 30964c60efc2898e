"""A confidence in a last line: what is written is what the reward and the signal read, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers import Answer
from rlsf.answers.config import AnswerConfig
from rlsf.answers.verbalised import (
    TAGS,
    confidence_of_last_line,
    stated_confidence,
    without_stated_confidence,
)
from rlsf.confidence import get_signal
from rlsf.errors import InputError
from rlsf.rewards import BrierCalibration
from rlsf.rewards.forms import with_confidence_line
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace

#: The word before the line of the confidence.
WORD = AnswerConfig(format="regex", pattern=r"(\S+?)\.?\s+Confidence:")
#: Texts in which lines, tags and halves of them stand anywhere.
PIECES = ["Confidence: 0.3", "Confidence:", " Confidence: 1", "\n", "\r\n", "\t", " 7", "0.", "é", "<confidence>0.5"]
TEXTS = st.lists(st.sampled_from([*PIECES, *TAGS]) | st.text(max_size=5)).map("".join)
CONFIDENCES = st.floats(0, 1)


def said_as_trace(text: str) -> Trace:
    return Trace(
        prompt_id="a",
        index=0,
        strategy="sampling",
        prompt_token_ids=np.array([2], dtype=np.int32),
        token_ids=np.array([3, 1], dtype=np.int32),
        text=text,
        finish_reason="eos",
        statistics=TokenStatistics.missing(2, 3),
        answer=Answer("7", 0, 1),
    )


@given(text=TEXTS, confidence=CONFIDENCES)
def test_what_is_written_is_read_back_by_reward_and_signal(text: str, confidence: float) -> None:
    said = with_confidence_line(text, confidence)
    assert confidence_of_last_line(said) == confidence
    assert stated_confidence(said) == confidence
    assert get_signal("verbalised").confidence(said_as_trace(said)) == confidence


@given(
    text=TEXTS, indent=st.text(" \t", max_size=2), number=st.sampled_from(["0.9", "1", ".5 ", "1.5", "sure", "0.5 "])
)
def test_a_last_line_that_the_reward_reads_is_read_by_the_signal(text: str, indent: str, number: str) -> None:
    said = f"{text}\n{indent}Confidence: {number}"
    assert confidence_of_last_line(said) == stated_confidence(said)
    assert (confidence_of_last_line(said) is None) == (number in ("1.5", "sure"))


@given(text=st.text(alphabet="abc 7.\n", max_size=20), first=CONFIDENCES, second=CONFIDENCES)
def test_a_line_replaces_one_that_is_there(text: str, first: float, second: float) -> None:
    assert with_confidence_line(with_confidence_line(text, first), second) == with_confidence_line(text, second)
    assert without_stated_confidence(with_confidence_line(text, first)).strip() == text.strip()


@given(words=st.lists(st.from_regex(r"[a-z0-9]+", fullmatch=True), min_size=1), confidence=CONFIDENCES)
def test_the_answer_is_the_word_before_the_line(words: list[str], confidence: float) -> None:
    said = with_confidence_line(f" {' '.join(words)}.", confidence)
    reward = BrierCalibration(written="line", answer=WORD)
    assert reward([said], answer=[words[-1]]) == pytest.approx([1 - (confidence - 1) ** 2])


@pytest.mark.parametrize(
    ("text", "confidence"),
    [
        ("It is 7.\nConfidence: 0.9", 0.9),
        ("It is 7.\n  Confidence:1 \n\n", 1.0),
        ("It is 7.\nConfidence: 0.2\nConfidence: .5", 0.5),
        ("Confidence: 0.9", None),
        ("It is 7. Confidence: 0.9", None),
        ("It is 7.\nConfidence: 0.9\nSo 7.", None),
        ("It is 7.\nConfidence: 0.9 or so", None),
        ("It is 7.\nConfidence: 0.2\nConfidence: sure", None),
        ("It is 7.\nConfidence: 90%", None),
        ("It is 7.\nConfidence: 1.5", None),
        ("It is 7.\nConfidence:", None),
        ("It is 7.\nconfidence: 0.9", None),
        ("", None),
    ],
)
def test_the_last_line(text: str, confidence: float | None) -> None:
    assert confidence_of_last_line(text) == confidence


def test_the_form_by_hand() -> None:
    assert with_confidence_line(" 70 + 1 = 71. The answer is 71. \n", 0.9) == (
        " 70 + 1 = 71. The answer is 71.\nConfidence: 0.9"
    )
    assert with_confidence_line("It is 7.\nConfidence: 0.1", 1e-07) == "It is 7.\nConfidence: 0.0000001"
    with pytest.raises(ValueError, match=r"confidence 1\.1"):
        with_confidence_line("It is 7.", 1.1)


def test_a_batch_by_hand() -> None:
    said: list[Any] = [
        "3 + 4 = 7.\nConfidence: 0.9",
        "It is 8.\nConfidence: 0.5",
        "It is 8.\nConfidence: 0.0",
        "It is 7.",
        "It is 7.\nConfidence: 0.9\nSo 7.",
        "It is 7.\nConfidence: high",
        "\nConfidence: 0.9",
        "",
        [{"role": "assistant", "content": "It is 7.0.\nConfidence: 1"}],
    ]
    logged: dict[str, float] = {}
    paper = BrierCalibration(written="line", answer=WORD)
    rewards = paper(said, answer=["7"] * len(said), log_metric=logged.__setitem__)
    assert rewards == pytest.approx([0.99, -0.25, 0.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0])
    assert logged == pytest.approx({"rlcr/malformed": 5 / 9, "rlcr/accuracy": 2 / 9, "rlcr/confidence": 0.6})
    published = BrierCalibration(written="line", answer=WORD, form="published")
    assert published(said, answer=["7"] * len(said)) == pytest.approx([1.495, 0.875, 1.0, *[0.0] * 5, 1.5])
    milder = BrierCalibration(written="line", answer=WORD, malformed=-0.5)
    assert milder(said[3:4], answer=["7"]) == [-0.5]


def test_other_formats_of_answers_and_options() -> None:
    boxed = BrierCalibration(written="line", answer=AnswerConfig(format="boxed"))
    said = [r"So \boxed{7}." + "\nConfidence: 0.5", "So 7.\nConfidence: 0.5"]
    assert boxed(said, answer=["7", "7"]) == pytest.approx([0.75, -1.0])
    options = [["three", "four"]] * 2
    choice = BrierCalibration(written="line", answer=WORD)
    said = ["It is B.\nConfidence: 1", "It is three.\nConfidence: 1"]
    assert choice(said, answer=["B", "B"], choices=options) == pytest.approx([1.0, -1.0])


def test_mistakes() -> None:
    with pytest.raises(InputError, match=r"written='lines': use tags or line"):
        BrierCalibration(written="lines")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="gold answers"):
        BrierCalibration(written="line", answer=WORD)(["It is 7.\nConfidence: 1"])
