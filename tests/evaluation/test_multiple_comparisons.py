"""Holm's correction: a worked example, its definition as a step-down test, invariances."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.evaluation.multiple import holm

p_values = st.lists(st.floats(0, 1), max_size=8)


def test_by_hand() -> None:
    # Smallest first: 4 x .005, 3 x .01, 2 x .03, 1 x .04; the last is raised to the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_unknown_ones_are_not_counted() -> None:
    assert holm([None, 0.01, None, 0.04]) == [None, pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm([]) == []


@given(values=p_values, level=st.floats(0.001, 0.5))
def test_below_alpha_are_those_that_the_step_down_test_rejects(values: list[float], level: float) -> None:
    rejected = set()
    order = sorted(range(len(values)), key=values.__getitem__)
    for step, place in enumerate(order):
        if values[place] * (len(values) - step) > level:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(values)) if p is not None and p <= level} == rejected


@given(values=p_values, shuffle=st.randoms())
def test_order_does_not_matter_and_no_p_value_shrinks(values: list[float], shuffle) -> None:
    order = list(range(len(values)))
    shuffle.shuffle(order)
    adjusted = holm(values)
    assert holm([values[place] for place in order]) == [adjusted[place] for place in order]
    assert all(a is not None and p <= a <= 1 for p, a in zip(values, adjusted, strict=True))


def test_an_impossible_p_value_is_refused() -> None:
    with pytest.raises(InputError, match=r"p value 1\.5 is not in \[0, 1\]"):
        holm([0.2, 1.5])
