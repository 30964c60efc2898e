from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.prompts import gold


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (39.0, "39"),
        ("145.0", "145"),
        ("70,000", "70000"),
        ("-1,234.50", "-1234.5"),
        ("$18", "18"),
        (7, "7"),
        (0.1, "0.1"),
        ("1e3", "1000"),
    ],
)
def test_numbers_are_written_one_way(value: Any, expected: str) -> None:
    assert gold.number(value) == expected


@pytest.mark.parametrize("value", ["", "twelve", float("nan"), float("inf"), "3/4"])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a"):
        gold.number(value)


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_change_nothing(value: int) -> None:
    assert gold.number(f"{value:,}") == gold.number(float(value)) == str(value)


def test_the_number_after_the_hashes() -> None:
    assert gold.after_hashes("2+2 = <<2+2=4>>4\n#### 4") == "4"
    assert gold.after_hashes("1 #### 2\n#### -1,234") == "-1234"
    with pytest.raises(ValueError, match="has no '####'"):
        gold.after_hashes("42")
    with pytest.raises(ValueError, match="is not a number"):
        gold.after_hashes("42 ####")


def test_plain_answers() -> None:
    assert [gold.plain(value) for value in (" x ", 3, 2.0, 2.5, True)] == ["x", 3, "2", "2.5", "true"]
    for value in ("", " ", None, ["x"]):
        with pytest.raises(ValueError, match="the gold answer"):
            gold.plain(value)
