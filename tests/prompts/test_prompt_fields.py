from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.prompts.fields import Row, get_field, has_field, parse_path

names = st.text(min_size=1, max_size=6).filter(lambda text: not set(text) & set(".[]"))
steps = st.lists(st.one_of(names, st.integers(0, 4)), max_size=5)


def spell(path: tuple[str | int, ...]) -> str:
    first, *rest = path
    return str(first) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in rest)


def nest(path: tuple[str | int, ...], value: Any) -> Any:
    """The smallest record in which ``path`` leads to ``value``; lists are filled up with null."""
    for step in reversed(path):
        value = {step: value} if isinstance(step, str) else [None] * step + [value]
    return value


@given(first=names, rest=steps)
def test_a_path_is_read_as_it_is_written(first: str, rest: list[str | int]) -> None:
    path = (first, *rest)
    assert parse_path(spell(path)) == path


@given(first=names, rest=steps, value=st.one_of(st.none(), st.text(), st.integers()))
def test_a_path_leads_to_its_value(first: str, rest: list[str | int], value: Any) -> None:
    path = (first, *rest)
    record = nest(path, value)
    assert has_field(record, spell(path))
    assert get_field(Row("here:1", record), spell(path)) == value


@given(first=names, rest=steps, other=names)
def test_a_step_aside_leads_nowhere(first: str, rest: list[str | int], other: str) -> None:
    path = (first, *rest)
    astray = (*path, other)
    assert not has_field(nest(path, "a text has no fields"), spell(astray))
    with pytest.raises(InputError, match=r"^here:1: no column"):
        get_field(Row("here:1", nest(path, "text")), spell(astray))


@given(name=names, values=st.lists(st.integers(), max_size=4))
def test_a_name_is_taken_in_every_element_of_a_list(name: str, values: list[int]) -> None:
    record = {"choices": [{name: value} for value in values]}
    assert get_field(Row("here:1", record), f"choices.{name}") == values


@pytest.mark.parametrize("path", ["", ".a", "a.", "a..b", "a[", "a[x]", "a[-1]", "[0]", "a[0]b"])
def test_unreadable_paths(path: str) -> None:
    with pytest.raises(InputError, match="cannot read the field"):
        parse_path(path)


def test_a_column_with_dots_in_its_name_stays_reachable() -> None:
    assert get_field(Row("here:1", {"a.b": 1, "a": {"b": 2}}), "a.b") == 1


def test_a_missing_step_names_what_is_there() -> None:
    row = Row("here:7", {"question": {"stem": "?", "choices": []}, "list": ["one"]})
    with pytest.raises(InputError) as caught:
        get_field(row, "question.stm")
    assert str(caught.value) == (
        "here:7: no column 'question.stm': no 'stm' in it (did you mean 'stem'?); available: stem, choices"
    )
    with pytest.raises(InputError, match=r"no 2 in it; available: \[0\]"):
        get_field(row, "list[2]")
    with pytest.raises(InputError, match=r"no column 'questoin' \(did you mean 'question'\?\); available: question"):
        get_field(row, "questoin")
