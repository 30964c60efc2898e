"""Kinds of traces: how much is said before the answer, and whether the answer was said before."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers.answer import Answer
from rlsf.evaluation.trace_kinds import kind_of


def trace(text: str) -> tuple[list[str], Answer]:
    """Pieces of a text whose answer stands in brackets: a word or a sign with the space before it is a token."""
    before, said, after = re.split(r"[\[\]]", text)
    parts = [re.findall(r"\s*(?:\w+|[^\w\s])", part) for part in (before, said, after)]
    start = len(parts[0])
    return [*parts[0], *parts[1], *parts[2]], Answer(said.strip(), start, start + len(parts[1]))


@pytest.mark.parametrize(
    ("text", "worked", "copied"),
    [
        ("The answer is[ 10].", False, False),
        ("[ 10] it is, because 4 + 6 = 10.", False, False),
        ("First, 12 - 6 = 6. Then 6 + 4 = 10. So the answer is[ 10].", True, True),
        ("First, 12 - 6 = 6, and with the four that she finds she has[ 10].", True, False),
        ("10? The answer is[ 10].", False, True),
        ("There were 1,250 of them on Monday, all in all. So the answer is[ 1250].", True, True),
        ("There were 250 of them on Monday, and 51 on Tuesday. So the answer is[ 25].", True, False),
        ("Mary has the most of all who were asked that day. So the answer is[ Mary].", True, True),
        ("Mary-Ann has more, and Marys have less than all others. So it is[ Ann].", True, True),
        ("Marys have less than all of the others who were asked then. So it is[ Mary].", True, False),
        ("a thing that all of us who were there had seen before. So it is[ A].", True, False),
    ],
)
def test_by_hand(text: str, worked: bool, copied: bool) -> None:
    kind = kind_of(*trace(text))
    assert (kind.worked, kind.copied) == (worked, copied)


def test_the_limit_is_counted_in_tokens_with_text() -> None:
    pieces, answer = trace("a b c[ 7]")
    assert not kind_of(pieces, answer, 3).worked
    assert kind_of(pieces, answer, 2).worked
    spaced = Answer(answer.text, answer.start + 2, answer.end + 2)
    assert not kind_of(["\n", " ", *pieces], spaced, 3).worked


@given(words=st.lists(st.sampled_from(["so", "it", "is"]), max_size=20), limit=st.integers(0, 20))
def test_what_follows_the_answer_does_not_matter(words: list[str], limit: int) -> None:
    pieces, answer = [*(f" {word}" for word in words), " 7"], Answer("7", len(words), len(words) + 1)
    kind = kind_of(pieces, answer, limit)
    assert kind == kind_of([*pieces, " because", " 7"], answer, limit)
    assert kind.worked == (len(words) > limit)
    assert not kind.copied
    assert kind_of([" 7", *pieces], Answer("7", answer.start + 1, answer.end + 1), limit).copied
