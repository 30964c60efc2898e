"""Format-free correctness: what counts as saying the gold answer, and what does not."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.evaluation.format_free import bare, last_number, last_option, says

CHOICES = ("a red fox", "a dog", "an ox", "nothing")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 and 12.", "12"),
        ("It costs $1,234.50 in all", "1234.50"),
        ("5-3", "3"),
        ("5 - 3 = -2", "-2"),
        ("(-7)", "-7"),
        ("one of 1,2", "2"),
        ("0.5%", "0.5"),
        ("x = 1000000", "1000000"),
    ],
)
def test_last_number(text: str, number: str):
    assert last_number(text) == Decimal(number)


def test_no_number():
    assert last_number("none at all.") is None


@given(st.integers(-(10**9), 10**9), st.sampled_from(["{}", "{:,}"]), st.sampled_from(["", ".", " apples", "\n"]))
def test_a_written_integer_is_read_back(value: int, form: str, after: str):
    assert last_number(f"First 3, then: {form.format(value)}{after}") == value


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The answer is B.", "B"),
        ("(A) no, rather (c)", "C"),
        ("**D**", "D"),
        ("It must be a dog", "B"),
        ("Not a dog but a red fox", "A"),
        ("E or something", None),
        ("BAD", None),
    ],
)
def test_last_option(text: str, label: str | None):
    assert last_option(text, CHOICES) == label


@pytest.mark.parametrize(
    ("text", "answer", "gold", "expected"),
    [
        ("The total is 72 apples.", None, "72", True),
        ("72 and then 73", None, "72", False),
        ("It is 72.0", None, "72", True),
        ("that makes 1,200", None, "$1200", True),
        ("so", r"\text{Blue}", "blue", True),
        ("so", "red", "blue", False),
        ("so", r"\frac{1}{2}", r" \frac{1}{2}.", True),
        ("half, that is 1 over 2", None, "1/2", False),
    ],
)
def test_says_without_options(text: str, answer: str | None, gold: str, expected: bool):
    assert says(text, answer, gold) is expected


@pytest.mark.parametrize(
    ("text", "answer", "gold", "expected"),
    [
        ("I would say (b)", None, "B", True),
        ("an animal", "A dog", "B", True),
        ("A or B", None, "A", False),
        ("B", "B", "a dog", False),
        ("nothing", None, "D", True),
    ],
)
def test_says_with_options(text: str, answer: str | None, gold: str, expected: bool):
    assert says(text, answer, gold, CHOICES) is expected


def test_bare_keeps_what_has_meaning():
    assert bare(" **Twenty One**. ") == "twentyone"
    assert bare("2*3") == "2*3"
    assert bare("(1,2)") != bare("[1,2]")
    assert bare("-3") != bare("3")
