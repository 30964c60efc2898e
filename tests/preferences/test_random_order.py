"""Pairs ranked by chance: as many and as far apart as by confidence, in an order that confidence has no part in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranked_traces import trace_for

from rlsf.preferences import RankingConfig, rank, rank_prompt
from rlsf.preferences.candidates import candidates
from rlsf.preferences.random_order import dealt_anew
from rlsf.traces import Trace

TENTHS = st.integers(0, 10).map(lambda tenth: tenth / 10)
CONFIDENCES = st.lists(st.none() | TENTHS, min_size=1, max_size=8)
DISTINCT = st.lists(st.integers(1, 1000), min_size=2, max_size=8, unique=True)
SETTINGS = st.fixed_dictionaries(
    {
        "rule": st.sampled_from(["all_pairs", "best_versus_rest", "best_versus_worst"]),
        "threshold": TENTHS,
        "minimum_gap": TENTHS,
        "maximum_pairs_per_prompt": st.none() | st.integers(1, 5),
        "without_answer": st.sampled_from(["drop", "reject"]),
        "truncated": st.sampled_from(["drop", "reject", "keep"]),
    }
)


def order_of(confidences: Sequence[float], seed: int, traces: Sequence[Trace] | None = None) -> list[int]:
    """Indices of the traces, best first."""
    traces = traces or [trace_for(index) for index in range(len(confidences))]
    ranked, _ = candidates(traces, confidences, RankingConfig())
    return [candidate.trace.index for candidate in dealt_anew(ranked, seed)]


@given(CONFIDENCES, SETTINGS, st.integers(0, 2**32), st.sets(st.integers(0, 7)))
def test_as_many_pairs_with_the_same_gaps(
    confidences: list[float | None], settings: dict[str, Any], seed: int, cut: set[int]
) -> None:
    traces = [trace_for(index, finish_reason="length" if index in cut else "eos") for index in range(len(confidences))]
    by_confidence, report = rank_prompt(traces, confidences, RankingConfig(**settings))
    by_chance, of_chance = rank_prompt(traces, confidences, RankingConfig(**settings, order="random"), seed)
    assert of_chance == report
    assert sorted(pair.gap for pair in by_chance) == sorted(pair.gap for pair in by_confidence)
    for pair in by_chance:
        assert pair.chosen.trace.index not in cut or settings["truncated"] == "keep"
        assert confidences[pair.chosen.trace.index] is not None


@given(DISTINCT, st.data(), st.integers(0, 2**32))
def test_confidences_have_no_part_in_the_order(values: list[int], data: st.DataObject, seed: int) -> None:
    others = data.draw(st.permutations(values))
    assert order_of([value / 1000 for value in values], seed) == order_of([value / 1000 for value in others], seed)
    assert order_of([value / 1000 for value in values], seed) == order_of([0.5] * len(values), seed)


@given(CONFIDENCES, st.data(), st.integers(0, 9))
def test_neither_rows_nor_other_prompts_change_a_pair(
    confidences: list[float | None], data: st.DataObject, seed: int
) -> None:
    traces = [trace_for(index) for index in range(len(confidences))]
    places = data.draw(st.permutations(range(len(traces))))
    config, texts = RankingConfig(order="random", threshold=0.0), {"p": "p", "q": "q"}
    alone, _ = rank([traces], [confidences], config, texts, seed)
    other = [trace_for(index, prompt_id="q") for index in range(3)]
    shuffled = [traces[place] for place in places], [confidences[place] for place in places]
    both, _ = rank([other, shuffled[0]], [[0.1, 0.9, 0.4], shuffled[1]], config, texts, seed)
    assert both.filter([row == "p" for row in both["prompt_id"].to_pylist()]).to_pylist() == alone.to_pylist()


def test_every_order_is_as_likely_as_any_other() -> None:
    orders, seeds = Counter(tuple(order_of([0.9, 0.5, 0.1], seed)) for seed in range(1200)), 1200
    assert len(orders) == math.factorial(3)
    # A count is binomial with mean 200 and deviation 12.9: five deviations.
    assert all(abs(count - seeds / 6) < 65 for count in orders.values())


def test_prompts_have_orders_of_their_own() -> None:
    confidences = [0.1, 0.3, 0.5, 0.7, 0.9]
    orders = {
        tuple(order_of(confidences, 0, [trace_for(index, prompt_id=str(prompt)) for index in range(5)]))
        for prompt in range(20)
    }
    assert len(orders) > 10


def test_equal_confidences_are_no_trace_of_the_old_order() -> None:
    # Of two that tie for the best, either is the one that is compared, as chance has it.
    config = RankingConfig(order="random", rule="best_versus_rest", threshold=0.0)
    chosen = Counter(
        rank_prompt([trace_for(i) for i in range(3)], [0.9, 0.9, 0.1], config, seed)[0][0].chosen.trace.index
        for seed in range(300)
    )
    assert all(60 < chosen[index] < 140 for index in range(3))


@pytest.mark.parametrize("seed", range(3))
def test_different_answers_stay_apart(seed: int) -> None:
    traces = [trace_for(index, answer) for index, answer in enumerate("7788")]
    config = RankingConfig(order="random", threshold=0.0, different_answers=True)
    pairs, _ = rank_prompt(traces, [0.2, 0.4, 0.6, 0.8], config, seed)
    assert len(pairs) == 4
    assert all(pair.chosen.answer_class != pair.rejected.answer_class for pair in pairs)
