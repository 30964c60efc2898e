"""Text in the forms that rewards look for: what is written is what the rewards read."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers.verbalised import TAGS, parse_verbalised, stated_confidence
from rlsf.rewards.forms import CONFIDENCES, drawn_confidence, grading_in_form, in_rlcr_form
from rlsf.rewards.grading import GRADES, GradeForm, parse_grade

#: Texts in which tags, halves of tags and other things stand anywhere.
TEXTS = st.lists(
    st.sampled_from([*TAGS, "<think>", "</th", "ink>", "<", ">", " 7", ".\n", "é"]) | st.text(max_size=5)
).map("".join)
ANSWERS = st.text(min_size=1, max_size=9).filter(lambda text: text.strip() and "<" not in text)


@given(text=TEXTS, answer=ANSWERS, confidence=st.floats(0, 1), analysis=st.booleans())
def test_what_is_written_is_read_back(text: str, answer: str, confidence: float, analysis: bool) -> None:
    said = in_rlcr_form(text, answer, confidence, analysis)
    assert parse_verbalised(said, analysis=analysis) == (answer.strip(), confidence, None)
    assert stated_confidence(said) == confidence


@given(text=TEXTS, answer=ANSWERS)
def test_a_text_in_the_form_keeps_its_reasoning(text: str, answer: str) -> None:
    once = in_rlcr_form(text, answer, 0.5, analysis=False)
    assert in_rlcr_form(once, answer, 0.5, analysis=False) == once


def test_the_form_by_hand() -> None:
    assert in_rlcr_form(" 70 + 1 = 71. The answer is 71.", "71", 0.9, analysis=False) == (
        " 70 + 1 = 71. The answer is 71. </think> <answer>71</answer> <confidence>0.9</confidence>"
    )
    with_doubts = in_rlcr_form("So 7.", "7", 0.0)
    assert with_doubts.startswith("So 7. </think> <answer>7</answer> <analysis>")
    assert with_doubts.endswith("</analysis> <confidence>0.0</confidence>")


@pytest.mark.parametrize("confidence", [1e-07, 5e-324, 0.1 + 0.2, -0.0, 1])
def test_any_confidence_is_written_in_plain_decimals(confidence: float) -> None:
    said = in_rlcr_form("x", "7", confidence, analysis=False)
    assert "e-" not in said
    assert stated_confidence(said) == confidence


@pytest.mark.parametrize(
    ("answer", "confidence", "message"),
    [
        (" ", 0.5, "must not be empty"),
        ("7</answer>", 0.5, "nor hold a tag"),
        ("7", 1.1, "confidence 1.1"),
        ("7", float("nan"), "confidence nan"),
    ],
)
def test_what_cannot_be_written(answer: str, confidence: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        in_rlcr_form("x", answer, confidence)


def test_drawn_confidences_are_uniform_and_repeatable() -> None:
    drawn = [drawn_confidence(7, f"q{i}#0") for i in range(11_000)]
    assert drawn == [drawn_confidence(7, f"q{i}#0") for i in range(11_000)]
    assert drawn != [drawn_confidence(8, f"q{i}#0") for i in range(11_000)]
    counts = Counter(drawn)
    assert set(counts) == set(CONFIDENCES)
    # chi-squared with 10 degrees of freedom exceeds 35 with a probability of 1e-4
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 35


@pytest.mark.parametrize("grade", GRADES)
@pytest.mark.parametrize("form", ["boxed", "line"])
def test_a_grade_in_its_form_is_read_back(grade: float, form: GradeForm) -> None:
    said = grading_in_form(grade, form)
    assert parse_grade(said, form) == grade
    assert parse_grade(f"The sum is wrong.\n{said}", form) == grade
