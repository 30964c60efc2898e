"""How a reasoning is split into statements."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.judging import statements


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("He has 3. She has 4! Is it 7?", ["He has 3. ", "She has 4! ", "Is it 7?"]),
        ("3.5 + 2 = 5.5", ["3.5 + 2 = 5.5"]),
        ("one line\nanother, (by her.) And so.", ["one line\n", "another, (by her.) ", "And so."]),
        ("1. We add.\n2. We take.\n(b) We stop", ["1. We add.\n", "2. We take.\n", "(b) We stop"]),
        ("Step 1: We add. Step 2:\nWe take.", ["Step 1: We add. ", "Step 2:\nWe take."]),
        ("All.\n\n---\n\nSo 7.", ["All.\n\n---\n\n", "So 7."]),
        ("***\nSo 7.", ["***\nSo 7."]),
        ("so it is\n7", ["so it is\n", "7"]),
        ("2.", ["2."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_lines_and_sentences(text: str, parts: list[str]) -> None:
    assert statements(text) == parts


def test_lines_alone() -> None:
    assert statements("He has 3. She has 4!\nIs it 7? Yes.", "lines") == ["He has 3. She has 4!\n", "Is it 7? Yes."]


@given(st.text(alphabet="aB1 .!?\n\t():*-", max_size=60), st.sampled_from(["sentences", "lines"]))
def test_nothing_is_lost_and_nothing_is_empty(text: str, ends: Literal["sentences", "lines"]) -> None:
    parts = statements(text, ends)
    assert "".join(parts) == (text if text.strip() else "")
    if any(character.isalnum() for character in text):
        assert all(any(character.isalnum() for character in part) for part in parts)
