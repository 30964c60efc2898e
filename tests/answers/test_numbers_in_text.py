"""Numbers as English writes them."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers import canonical
from rlsf.answers.config import AnswerConfig
from rlsf.answers.find import choose_occurrence
from rlsf.answers.number import canonical_number, find_numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 5.", [("5", "5")]),
        ("-5", [("-5", "-5")]),
        ("−5", [("-5", "−5")]),
        ("it is –5", [("-5", "–5")]),
        ("5–10 of them", [("5", "5"), ("10", "10")]),
        ("It fell to -5 degrees", [("-5", "-5")]),
        ("x = -5.", [("-5", "-5")]),
        ("10-5", [("10", "10"), ("5", "5")]),
        ("10 -5", [("10", "10"), ("5", "5")]),
        ("10 - 5 = 5", [("10", "10"), ("5", "5"), ("5", "5")]),
        ("(2)-5", [("2", "2"), ("5", "5")]),
        ("COVID-19", [("19", "19")]),
        ("5−3", [("5", "5"), ("3", "3")]),
        ("$18", [("18", "18")]),
        ("-$5", [("-5", "-$5")]),
        ("$-5", [("-5", "-5")]),
        ("\\$1,234.50.", [("1234.5", "1,234.50")]),
        ("50%", [("50", "50")]),
        ("50%-60%", [("50", "50"), ("60", "60")]),
        ("1,234", [("1234", "1,234")]),
        ("1,234,567 people", [("1234567", "1,234,567")]),
        ("1{,}234", [("1234", "1{,}234")]),
        ("1\u202f234", [("1234", "1\u202f234")]),
        ("3, 4", [("3", "3"), ("4", "4")]),
        ("3,4", [("3", "3"), ("4", "4")]),
        ("1,2345", [("1", "1"), ("2345", "2345")]),
        ("is 3.5.", [("3.5", "3.5")]),
        ("costs .5", [("0.5", ".5")]),
        ("the end.5", [("5", "5")]),
        ("wait...5", [("5", "5")]),
        ("0.50 and 18.00", [("0.5", "0.50"), ("18", "18.00")]),
        ("007", [("7", "007")]),
        ("-0.0", [("0", "-0.0")]),
        ("3/4 of it", [("3/4", "3/4")]),
        ("6/2=3", [("6/2", "6/2"), ("3", "3")]),
        ("3/4/2020", [("3", "3"), ("4", "4"), ("2020", "2020")]),
        ("1/2.5", [("1", "1"), ("2.5", "2.5")]),
        ("5/0", [("5", "5"), ("0", "0")]),
        ("1 1/2 cups", [("3/2", "1 1/2")]),
        ("10 6/2", [("10", "10"), ("6/2", "6/2")]),
        ("\\frac{3}{4}", [("3/4", "\\frac{3}{4}")]),
        ("-2\\dfrac{1}{2}", [("-5/2", "-2\\dfrac{1}{2}")]),
        ("\\frac{-3}{4}", [("-3/4", "\\frac{-3}{4}")]),
        ("-\\frac{-3}{4}", [("3/4", "-\\frac{-3}{4}")]),
        ("1\\frac12, so -\\frac34", [("3/2", "1\\frac12"), ("-3/4", "-\\frac34")]),
        ("x = \\frac123", []),
        ("2.5e3", [("2500", "2.5e3")]),
        ("2e-3.", [("0.002", "2e-3")]),
        ("1e999999", [("1", "1")]),
        ("x2 and H2O", []),
        ("5km", [("5", "5")]),
        ("共5个", [("5", "5")]),
        ("<<48/2=24>>24", [("48/2", "48/2"), ("24", "24"), ("24", "24")]),
        ("no digits, not even ٣", []),
    ],
)
def test_numbers_and_their_places(text, expected) -> None:
    assert [(n.answer, text[n.start : n.end]) for n in find_numbers(text)] == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234", "1234"),
        ("$18", "18"),
        ("18.00", "18"),
        ("18€", "18"),
        ("+5", "5"),
        ("(5)", "5"),
        ("5.", "5"),
        ("$5$", "5"),
        ("50\\%", "50"),
        ("5 6", None),
        ("5x", None),
        ("5!", None),
        ("10-5", None),
        ("10^5", None),
        ("five", None),
        ("", None),
    ],
)
def test_a_lone_number(text, number) -> None:
    assert canonical_number(text) == number


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (" $1,234.00 ", "1234"),
        ("$\\text{no}$.", "no"),
        ("\\(3/4\\)", "3/4"),
        ("(b)", "B"),
        ("B.", "B"),
        ("b", "b"),
        ("two  words\n here.", "two words here"),
        (".", "."),
        ("x+1", "x+1"),
    ],
)
def test_canonical_forms(text, form) -> None:
    assert canonical(text) == form


@given(st.decimals(-(10**12), 10**12, places=4))
def test_canonical_number_keeps_the_value_and_is_one_spelling(value) -> None:
    spellings = {f"{value:f}", f"{value:,f}", f"{value:f}00", f"{value:,f}."}
    forms = {canonical_number(spelling) for spelling in spellings}
    assert len(forms) == 1
    form = forms.pop()
    assert form is not None
    assert Decimal(form) == value
    assert canonical_number(form) == form


@given(st.text(st.sampled_from("0123456789.,/-−$% eE(){}\\frac"), max_size=40))
def test_any_text_gives_numbers_in_order_and_in_place(text) -> None:
    found = list(find_numbers(text))
    assert all(before.end <= after.start for before, after in pairwise(found))
    for number in found:
        assert any(character.isdigit() for character in text[number.start : number.end])
        assert canonical_number(number.answer) == number.answer


def test_thousands_of_digits_are_no_obstacle() -> None:
    digits = "9" * 6000
    assert [n.answer for n in find_numbers(f"{digits} 1/{digits}")] == [digits, f"1/{digits}"]


@pytest.mark.parametrize(
    "text",
    [
        "7 + 5 = 12. The answer is 12.\nConfidence: 0.9",
        "</think> <answer>12</answer> <confidence>0.9</confidence>",
        "The answer is 12. <confidence>1</confidence>",
    ],
)
def test_a_stated_confidence_is_no_answer(text: str) -> None:
    found = choose_occurrence(text, AnswerConfig())
    assert found is not None
    assert found.answer == "12"


def test_a_confidence_in_a_sentence_is_a_number_like_any_other() -> None:
    found = choose_occurrence("My confidence: it is 12.", AnswerConfig())
    assert found is not None
    assert found.answer == "12"
