"""Correctness of the answer."""

from __future__ import annotations

from typing import Any

import pytest

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.rewards import BrierCalibration, Correctness


def test_a_batch_by_hand() -> None:
    said = ["3 and 4 make 7.", "So 7.00", "7? No: 8", "no idea", ""]
    logged: dict[str, float] = {}
    assert Correctness()(said, answer=["7"] * 5, log_metric=logged.__setitem__) == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert logged == {"answers/missing": 0.4}
    assert Correctness()([], answer=[], log_metric=logged.__setitem__) == []


def test_gold_answers_that_are_numbers() -> None:
    assert Correctness()(["7", "7", "0.5"], answer=[7, 8, 0.5]) == [1.0, 0.0, 1.0]


def test_answers_are_found_as_asked() -> None:
    said = ["<answer>7</answer> of 9", "7 first, then 9"]
    assert Correctness(AnswerConfig(format="tag"))(said, answer=["7", "7"]) == [1.0, 0.0]
    assert Correctness(AnswerConfig(occurrence="earliest"))(said, answer=["7", "7"]) == [1.0, 1.0]
    assert Correctness()(said, answer=["7", "7"]) == [0.0, 0.0]


def test_equal_in_value_and_not_in_form() -> None:
    boxed = [r"\boxed{\frac{1}{2}}", r"\boxed{2x + 2}", r"\boxed{\frac{1}{3}}"]
    rewards = Correctness(AnswerConfig(format="boxed"))(boxed, answer=["0.5", "2(x+1)", "0.5"])
    assert rewards == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("gold", ["B", "b", "pears", "Pears"])
@pytest.mark.parametrize(
    ("text", "right"),
    [("The answer is (B).", 1.0), ("It must be pears", 1.0), ("The answer is A.", 0.0), ("plums", 0.0), ("fruit", 0.0)],
)
def test_letters_and_texts_of_options_stand_for_each_other(gold: str, text: str, right: float) -> None:
    assert Correctness()([text], answer=[gold], choices=[["plums", "pears"]]) == [right]


def test_options_that_are_numbers() -> None:
    """Answers found as numbers are compared with the letter of the option."""
    options = [["21", "30", "12"]] * 3
    asked = Correctness(AnswerConfig(format="number"))
    assert asked(["so 30", "so 21", "so 30.0"], answer=["B", "B", "30"], choices=options) == [1.0, 0.0, 1.0]


def test_messages_and_questions_with_and_without_options() -> None:
    said: list[Any] = [[{"role": "assistant", "content": text}] for text in ("The answer is (B).", "It is 4.", "B")]
    choices = [["plums", "pears"], None, None]
    assert Correctness()(said, answer=["B", "4", "4"], choices=choices) == [1.0, 1.0, 0.0]


def test_mistakes() -> None:
    with pytest.raises(InputError, match="Correctness learns from gold answers: give the training data a column"):
        Correctness()(["7"])
    for empty in (None, " "):
        with pytest.raises(InputError, match=r"Correctness.* is empty in some rows"):
            Correctness()(["7", "8"], answer=["7", empty])
        with pytest.raises(InputError, match=r"BrierCalibration.* is empty in some rows"):
            BrierCalibration()(["7", "8"], answer=["7", empty])
    with pytest.raises(InputError, match="elicited"):
        Correctness(AnswerConfig(format="elicited"))
