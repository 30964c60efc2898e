from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.prompts.choices import Choices, choice_letter, read_choices, strip_letters

TEXTS = ("red", "green", "blue")


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (["red", " green ", "blue"], ()),
        ([{"label": "A", "text": "red"}, {"label": "B", "text": "green"}, {"label": "C", "text": "blue"}], "ABC"),
        ([{"text": "red"}, {"text": "green"}, {"text": "blue"}], ()),
        ({"label": ["1", "2", "3"], "text": ["red", "green", "blue"]}, "123"),
        ({"text": ["red", "green", "blue"]}, ()),
        ({"A": "red", "B": "green", "C": "blue"}, "ABC"),
        ('["red", "green", "blue"]', ()),
        ('{"label": ["A", "B", "C"], "text": ["red", "green", "blue"]}', "ABC"),
    ],
)
def test_every_published_form(value: Any, labels: Any) -> None:
    assert read_choices(value) == Choices(TEXTS, tuple(labels))


@pytest.mark.parametrize("value", [None, "", "  ", [], {}])
def test_no_choices(value: Any) -> None:
    assert read_choices(value) == Choices()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["only"], "1 choices: give from 2 to 26"),
        ([str(number) for number in range(27)], "27 choices"),
        ("red, green", "not a JSON array"),
        (7, "must be a list, found int"),
        (["red", None], "a choice must be text, found NoneType"),
        (["red", ["green"]], "a choice must be text, found list"),
        ([{"label": "A"}, {"label": "B"}], "every choice needs a 'text'"),
        ({"label": ["A"], "text": ["red", "green"]}, "1 labels for 2 choices"),
        ([{"label": "A", "text": "red"}, {"label": "A", "text": "green"}], "labels that differ"),
    ],
)
def test_unusable_choices(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_choices(value)


@pytest.mark.parametrize(
    ("gold", "choices", "letter"),
    [
        ("B", Choices(TEXTS), "B"),
        ("(B)", Choices(TEXTS), "B"),
        ("b.", Choices(TEXTS), "B"),
        ("blue", Choices(TEXTS), "C"),
        (0, Choices(TEXTS), "A"),
        ("3", Choices(TEXTS, ("1", "2", "3")), "C"),
        (1, Choices(TEXTS, ("1", "2", "3")), "A"),  # a label wins over a zero-based index
        ("A", Choices(("B", "A")), "A"),  # a letter wins over an option's text
        ("4", Choices(("4", "5", "6")), "A"),  # a text that reads as a number is an option's text, never an index
        ("a", Choices(("c", "b", "a")), "C"),  # an option's text wins over a lower-case letter
    ],
)
def test_the_letter_of_the_right_option(gold: Any, choices: Choices, letter: str) -> None:
    assert choice_letter(gold, choices) == letter


@pytest.mark.parametrize("gold", ["D", "purple", "", 3, -1, True, "1"])
def test_gold_answers_that_name_no_option(gold: Any) -> None:
    with pytest.raises(ValueError, match="names none of the 3 choices"):
        choice_letter(gold, Choices(TEXTS))


@given(st.lists(st.text().map(str.strip), min_size=2, max_size=26, unique=True), st.data())
def test_letters_follow_positions_whatever_the_labels(texts: list[str], data: st.DataObject) -> None:
    labels = data.draw(st.permutations([f"#{index}" for index in range(len(texts))]))
    position = data.draw(st.integers(0, len(texts) - 1))
    value = {"label": labels, "text": texts}
    assert choice_letter(labels[position], read_choices(value)) == string.ascii_uppercase[position]


def test_letters_inside_the_options_are_removed_only_when_all_have_theirs() -> None:
    assert strip_letters(Choices(("A)21", "B) 21.5", "(C) 22"))) == Choices(("21", "21.5", "22"), ("A", "B", "C"))
    for odd in (Choices(("A)21", "22")), Choices(("B)21", "A)22")), Choices(("A note", "B note"))):
        assert strip_letters(odd) == odd
