"""Prompts under a cap: which are taken depends on what they cost, and on nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlsf.pipeline.waves import Waves, most_tokens
from rlsf.recipes import resolve

MOST = 20
costs_of_prompts = st.lists(st.integers(0, MOST), max_size=60)


def one_by_one(costs: list[int], cap: int) -> int:
    """Prompts asked one after the other, each only where its longest traces fit."""
    spent = taken = 0
    while taken < len(costs) and spent + MOST <= cap:
        spent += costs[taken]
        taken += 1
    return taken


def taken_in_waves(costs: list[int], cap: int | None) -> Waves:
    waves = Waves(len(costs), cap, MOST)
    for wave in waves:
        assert wave > 0
        waves.pay(sum(costs[waves.taken - wave : waves.taken]))
    return waves


@given(costs_of_prompts, st.integers(0, 800))
def test_waves_take_what_one_by_one_takes(costs: list[int], cap: int) -> None:
    waves = taken_in_waves(costs, cap)
    assert waves.taken == one_by_one(costs, cap)
    assert waves.cost == sum(costs[: waves.taken]) <= cap
    assert waves.taken == len(costs) or waves.cost + MOST > cap


@given(costs_of_prompts, st.integers(0, 800), st.integers(0, 100))
def test_a_larger_cap_takes_no_fewer_and_the_same_first(costs: list[int], cap: int, more: int) -> None:
    assert taken_in_waves(costs, cap).taken <= taken_in_waves(costs, cap + more).taken


@given(costs_of_prompts, costs_of_prompts, st.integers(0, 800))
def test_what_comes_later_changes_nothing(costs: list[int], others: list[int], cap: int) -> None:
    alone = taken_in_waves(costs, cap).taken
    assert min(taken_in_waves(costs + others, cap).taken, len(costs)) == alone


@given(costs_of_prompts)
def test_without_a_cap_all_are_one_wave(costs: list[int]) -> None:
    assert list(Waves(len(costs), None, MOST)) == ([len(costs)] if costs else [])


def test_the_longest_traces_of_a_prompt() -> None:
    recipe = resolve("rlsf", None, {"sampling": {"branches": 6, "max_new_tokens": 50}})
    assert most_tokens(recipe, recipe.sampling) == 300
    assert most_tokens(recipe, recipe.sampling, traces=1) == 50
    asked = resolve("rlsf", None, {"answer": {"format": "elicited", "elicited_tokens": 7}})
    assert most_tokens(asked, recipe.sampling) == 6 * 57
