"""The answer given more often than any other: which traces give it, and when there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers import clear_majority

ANSWERS = st.lists(st.sampled_from(["1/2", "0.5", "2/4", "7", "7.0", "8", None]), max_size=9)
VALUES = {"1/2": 0.5, "0.5": 0.5, "2/4": 0.5, "7": 7, "7.0": 7, "8": 8}


@pytest.mark.parametrize(
    ("answers", "members"),
    [
        (["7", "8", "7"], (0, 2)),
        (["8", "1/2", None, "0.5", "2/4", "8"], (1, 3, 4)),
        (["7"], (0,)),
        (["7", None, None], (0,)),
        (["7", "8"], ()),
        (["7", "8", "8", "7", "9"], ()),
        (["7", "8", "9"], ()),
        ([None, None], ()),
        ([], ()),
    ],
)
def test_by_hand(answers: list[str | None], members: tuple[int, ...]) -> None:
    assert clear_majority(answers) == members


@given(ANSWERS)
def test_it_is_the_only_answer_that_is_counted_most(answers: list[str | None]) -> None:
    values = [None if answer is None else VALUES[answer] for answer in answers]
    counts = {value: values.count(value) for value in values if value is not None}
    leading = [value for value, count in counts.items() if count == max(counts.values())]
    expected = [index for index, value in enumerate(values) if [value] == leading]
    assert list(clear_majority(answers)) == expected


@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_the_traces_does_not_matter(answers: list[str | None], chance: object) -> None:
    places = list(range(len(answers)))
    chance.shuffle(places)  # type: ignore[attr-defined]
    shuffled = clear_majority([answers[place] for place in places])
    assert sorted(places[index] for index in shuffled) == list(clear_majority(answers))
