"""Format-free correctness: what counts as saying the gold answer, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.evaluation.format_free import bare, last_reading, same_but_for_format
from rlsf.evaluation.modes import Verdicts

CHOICES = ("a red fox", "a dog", "an ox", "nothing")


@given(st.integers(-(10**9), 10**9), st.sampled_from(["{}", "{:,}"]), st.sampled_from(["", ".", " apples", "\n"]))
def test_a_written_integer_is_read_back(value: int, form: str, after: str):
    assert last_reading(f"First 3, then: {form.format(value)}{after}", "3") == str(value)


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("The total is 72 apples.", "72", "72"),
        ("72 and then 73", "72", "73"),
        ("so 3/4 of it", "0.75", "3/4"),
        ("no number", "72", None),
        ("so blue, not 3", "blue", None),
    ],
)
def test_the_last_number_is_read_where_the_gold_answer_is_one(text: str, gold: str, expected: str | None):
    assert last_reading(text, gold) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is B.", "B"),
        ("(A) no, rather (c)", "C"),
        ("**D**", "D"),
        ("It must be a dog", "B"),
        ("Not a dog but a red fox", "A"),
        ("E or something", None),
    ],
)
def test_the_last_option_is_read_where_there_are_any(text: str, expected: str | None):
    assert last_reading(text, "A", CHOICES) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        (r"\text{Blue}", "blue", True),
        ("**Twenty-One**", "twenty-one", True),
        ("red", "blue", False),
        (r"\frac{1}{2}", r" \frac{1}{2}.", True),
        ("B", "a dog", False),
    ],
)
def test_same_but_for_format(answer: str, gold: str, expected: bool):
    assert same_but_for_format(answer, gold) is expected


def test_bare_keeps_what_has_meaning():
    assert bare(" **Twenty One**. ") == "twentyone"
    assert bare("2*3") == "2*3"
    assert bare("(1,2)") != bare("[1,2]")
    assert bare("-3") != bare("3")


def test_the_reading_is_graded_not_compared():
    # A missing tag: nothing extracted, but the text ends in a number that the grader finds equivalent to the gold one.
    verdicts = Verdicts("0.75", (), lambda answer, gold, choices: (answer, gold) == ("3/4", "0.75"))
    assert verdicts.format_free("so it is 3/4 of the cake", None)
    assert not verdicts.format_free("so it is 4/3 of the cake", None)


def test_an_undecided_reading_is_wrong():
    assert not Verdicts("0.75", (), lambda answer, gold, choices: None).format_free("3/4", None)
