"""Chosen options: letters in forms that writers of answers use, and options in their own words."""

from __future__ import annotations

import pytest

from rlsf.answers.choice import find_choices
from rlsf.errors import InputError

OPTIONS = ("cat", "dog", "red wine", "red", "1200")


def found(text: str, choices=OPTIONS) -> list[tuple[str, str]]:
    return [(choice.answer, text[choice.start : choice.end]) for choice in find_choices(text, choices)]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B).", "B"),
        ("Answer: B", "B"),
        ("**Answer:** b)", "B"),
        ("the answer is b", "B"),
        ("The correct answer to this question is C, since", "C"),
        ("The correct option is **E**: 1200", "E"),
        ("So the best choice would be D.", "D"),
        ("the answer must be option B", "B"),
        ("I choose C", "C"),
        ("\\boxed{\\text{D}}", "D"),
        ("Answer:\n\nC) something", "C"),
        ("The answer is A.", "A"),
        ("answer is A because", "A"),
        ("it is [D]", "D"),
        ("B is the correct answer, (A) is not.", "B"),
        ("(C) would thus be wrong.\n**B)** is therefore the best option.\nD) is wrong.", "B"),
        ("<answer>B</answer> (A)", "B"),
        ("The answer is 'B'.", "B"),
        ("answer: ‘C’", "C"),
        ("option D is fine", "D"),
        ("B. something", "B"),
        ("**B**", "B"),
        ("Thinking.\nB\n", "B"),
        ("So it is C.", "C"),
    ],
)
def test_letters(text, letter) -> None:
    answer, written = found(text)[-1]
    assert (answer, written.upper()) == (letter, letter)


@pytest.mark.parametrize(
    ("text", "letter", "written"),
    [
        ("The answer is A dog", "B", "dog"),
        ("A dog is what I want", "B", "dog"),
        ("(A) cat\n(B) dog\nSo the answer is dog.", "B", "dog"),
        ("red  wine", "C", "red  wine"),
        ("The answer is the RED one", "D", "RED"),
        ("it costs $1,200.", "E", "1,200"),
        ("cat, no, dog", "B", "dog"),
    ],
)
def test_options_in_their_own_words(text, letter, written) -> None:
    assert found(text)[-1] == (letter, written)


@pytest.mark.parametrize(
    "text",
    [
        "A bird is nice",
        "I think so",
        "Therefore I",
        "(F)",
        "The answer is a",
        "The answer is a bird.",
        "catalogue",
        "The answer is D'or",
        "",
    ],
)
def test_words_are_no_letters(text) -> None:
    assert found(text) == []


def test_an_announced_letter_beats_letters_mentioned_later() -> None:
    assert found("The answer is (B). Note that (A) is a cat.") == [("B", "B")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is not B but (C)", [("C", "C")]),
        ("The answer is not A.", []),
        ("It isn't (B).", []),
        ("Neither A nor B is the correct answer", []),
        ("A is not the right choice", []),
        ("(C), not **option B**", [("C", "C")]),
        ("Is it A or not\nB.", [("B", "B")]),
    ],
)
def test_a_denied_letter_does_not_count(text, expected) -> None:
    assert found(text) == expected


def test_without_options_the_first_ten_letters_count() -> None:
    assert found("Answer: J", ()) == [("J", "J")]
    assert found("Answer: K", ()) == []


def test_letters_end_at_z() -> None:
    with pytest.raises(InputError, match="27 choices for one question"):
        find_choices("B", [str(i) for i in range(27)])


def test_options_with_symbols() -> None:
    assert found("we get (x+1)^2 then", ("x^2", "(x+1)^2")) == [("B", "(x+1)^2")]
