"""The pairing rules, with the arithmetic written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranked_traces import trace_for

from rlsf.errors import InputError
from rlsf.preferences import RankingConfig, RankingReport, rank_prompt
from rlsf.preferences.pairs import Pair, margin
from rlsf.traces import Trace


def ranked(
    confidences: Sequence[float | None], traces: Sequence[Trace] | None = None, **settings: Any
) -> tuple[dict[tuple[int, int], float], RankingReport]:
    """(chosen index, rejected index) -> margin, in the order of the pairs, and the report."""
    config = RankingConfig(**settings)
    found, report = rank_prompt(traces or [trace_for(i) for i in range(len(confidences))], confidences, config)
    return {indices(pair): margin(pair.gap, config.margin) for pair in found}, report


def indices(pair: Pair) -> tuple[int, int]:
    return pair.chosen.trace.index, pair.rejected.trace.index


def test_all_pairs_of_the_paper() -> None:
    margins, report = ranked([0.97, 0.92, 0.92, 0.5, 0.0], threshold=0.9)
    # exp of the gaps: .97 - .92 = .05, .97 - .5 = .47, .97 - 0 = .97, .92 - .5 = .42, .92 - 0 = .92
    assert margins == pytest.approx(
        {
            **{(0, 1): 1.0513, (0, 2): 1.0513, (0, 3): 1.6000, (0, 4): 2.6379},
            **{(1, 3): 1.5220, (2, 3): 1.5220, (1, 4): 2.5093, (2, 4): 2.5093},
        },
        abs=5e-5,
    )
    assert report.pairs == 8
    assert report.ties == 1
    assert report.mean_gap == pytest.approx((2 * 0.05 + 0.47 + 0.97 + 2 * 0.42 + 2 * 0.92) / 8)


def test_threshold_is_inclusive_and_order_is_strict() -> None:
    assert set(ranked([0.9, 0.89], threshold=0.9)[0]) == {(0, 1)}
    assert not ranked([0.9, 0.89], threshold=0.900001)[0]
    assert not ranked([0.95, 0.95], threshold=0.9)[0]


def test_best_versus_rest_and_worst() -> None:
    confidences = [0.5, 0.8, 0.95, 0.95, 0.2]
    # the surest, the smaller index of the two at .95, against all that are less sure
    assert list(ranked(confidences, rule="best_versus_rest")[0]) == [(2, 4), (2, 0), (2, 1)]
    assert list(ranked(confidences, rule="best_versus_worst")[0]) == [(2, 4)]


def test_best_versus_worst_looks_past_the_same_answer() -> None:
    traces = [trace_for(0, "7"), trace_for(1, "8"), trace_for(2, "7")]
    pairs, _ = ranked([0.95, 0.6, 0.1], traces, rule="best_versus_worst", different_answers=True)
    assert list(pairs) == [(0, 1)]


def test_different_answers() -> None:
    traces = [trace_for(0, "7"), trace_for(1, "7"), trace_for(2, "8")]
    pairs, report = ranked([0.95, 0.92, 0.1], traces, different_answers=True)
    assert list(pairs) == [(0, 2), (1, 2)]
    assert report.prompts_without_pairs == 0


def test_equal_numbers_written_differently_are_one_answer() -> None:
    traces = [trace_for(0, "1/2"), trace_for(1, "2/4"), trace_for(2, "0.25")]
    assert list(ranked([0.95, 0.5, 0.1], traces, different_answers=True)[0]) == [(0, 2)]


def test_minimum_gap_is_inclusive() -> None:
    assert list(ranked([1.0, 0.75, 0.5], minimum_gap=0.5)[0]) == [(0, 2)]


def test_cap_keeps_the_largest_gaps_and_breaks_ties_by_index() -> None:
    pairs, report = ranked([0.25, 1.0, 0.25, 0.5], maximum_pairs_per_prompt=2)
    assert list(pairs) == [(1, 0), (1, 2)]
    assert report.pairs == 2


@pytest.mark.parametrize(("kind", "expected"), [("exponential", math.exp(0.25)), ("gap", 0.25), ("none", 0.0)])
def test_margins(kind: str, expected: float) -> None:
    assert ranked([1.0, 0.75], margin=kind)[0] == {(0, 1): pytest.approx(expected)}


def test_aggregated_answers() -> None:
    # CoT-decoding's vector: A .9, B .5 + .45 = .95; divided by three traces .3 and .31667, so B wins
    traces = [trace_for(0, "A"), trace_for(1, "B"), trace_for(2, "B")]
    settings: dict[str, Any] = {"aggregate_answers": True, "threshold": 0.0, "rule": "best_versus_rest"}
    pairs, report = ranked([0.9, 0.5, 0.45], traces, **settings)
    assert list(pairs) == [(1, 0)]
    assert report.mean_gap == pytest.approx((0.95 - 0.9) / 3)
    # single best path instead: A
    assert list(ranked([0.9, 0.5, 0.45], traces, threshold=0.0, rule="best_versus_worst")[0]) == [(0, 2)]


def test_a_trace_that_cannot_win_does_not_vote() -> None:
    traces = [trace_for(0, "A"), trace_for(1, "B"), trace_for(2, "B", finish_reason="length")]
    found, _ = rank_prompt(
        traces, [0.5, 0.4, 0.4], RankingConfig(aggregate_answers=True, truncated="reject", threshold=0)
    )
    # A .5 / 3; B only the .4 of the whole trace, / 3: the truncated trace shares B's confidence without adding to it
    assert {indices(pair): (pair.chosen.confidence, pair.rejected.confidence) for pair in found} == {
        (0, 1): pytest.approx((0.5 / 3, 0.4 / 3)),
        (0, 2): pytest.approx((0.5 / 3, 0.4 / 3)),
    }


@pytest.mark.parametrize(("rule", "expected"), [("drop", []), ("reject", [(0, 1)])])
def test_traces_without_answer(rule: str, expected: list[tuple[int, int]]) -> None:
    # A whole-trace signal is sure of the unanswered trace: it is never preferred, and rejected at confidence 0.
    for confidence in (0.99, None):
        pairs, report = ranked([0.95, confidence], [trace_for(0), trace_for(1, None)], without_answer=rule)
        assert list(pairs) == expected
        assert report.without_answer == 1
        assert report.too_few_traces == (0 if expected else 1)
        if expected:
            assert report.mean_gap == pytest.approx(0.95)


@pytest.mark.parametrize(("rule", "expected"), [("drop", []), ("reject", [(0, 2)]), ("keep", [(1, 2), (1, 0), (0, 2)])])
def test_truncated_traces(rule: str, expected: list[tuple[int, int]]) -> None:
    traces = [trace_for(0), trace_for(1, finish_reason="length"), trace_for(2, finish_reason="length")]
    pairs, report = ranked([0.95, 0.99, 0.9], traces, truncated=rule, threshold=0.92)
    assert set(pairs) == set(expected)
    assert report.truncated == 2


def test_the_stricter_rule_wins_for_truncated_traces_without_answer() -> None:
    traces = [trace_for(0), trace_for(1, None, finish_reason="length")]
    assert not ranked([0.95, None], traces, truncated="keep", without_answer="drop")[0]
    assert not ranked([0.95, None], traces, truncated="drop", without_answer="reject")[0]
    assert ranked([0.95, None], traces, truncated="keep", without_answer="reject")[0]


def test_equal_token_sequences_are_one_candidate() -> None:
    same = [5, 3, 2]
    traces = [trace_for(0, tokens=same), trace_for(1, tokens=same), trace_for(2, "8")]
    pairs, report = ranked([0.95, 0.94, 0.1], traces)
    assert list(pairs) == [(0, 2)]
    assert report.duplicates == 1


def test_reasons_for_no_pair() -> None:
    assert ranked([0.95])[1].too_few_traces == 1
    assert ranked([0.85, 0.2])[1].below_threshold == 1
    assert ranked([0.95, 0.95])[1].undecided == 1
    assert ranked([0.95, 0.2], different_answers=True)[1].undecided == 1


@pytest.mark.parametrize("confidence", [-0.01, 1.01, math.nan])
def test_confidence_out_of_range(confidence: float) -> None:
    with pytest.raises(InputError, match="trace p#1 has confidence"):
        ranked([0.5, confidence])


@pytest.mark.parametrize(("rule", "expected"), [("drop", []), ("reject", [(0, 1)])])
def test_an_answer_without_confidence_is_never_preferred_and_counted(
    rule: str, expected: list[tuple[int, int]]
) -> None:
    pairs, report = ranked([0.95, None], without_answer=rule)
    assert list(pairs) == expected
    assert (report.without_confidence, report.without_answer) == (1, 0)
    if expected:
        assert report.mean_gap == pytest.approx(0.95)
    # Three traces, one of which votes: (.95 + nothing) / 3, and nothing for the other answer.
    traces = [trace_for(0, "7"), trace_for(1, "7"), trace_for(2, "8")]
    _, report = ranked([0.95, None, None], traces, without_answer=rule, aggregate_answers=True, threshold=0)
    assert report.mean_gap == (pytest.approx(0.95 / 3) if expected else None)


CONFIDENCES = st.one_of(st.sampled_from([0.0, 0.5, 0.9, 1.0, None]), st.floats(0, 1))
CONFIGURATIONS = st.builds(
    RankingConfig,
    rule=st.sampled_from(["all_pairs", "best_versus_rest", "best_versus_worst"]),
    threshold=st.sampled_from([0.0, 0.5, 0.9]),
    minimum_gap=st.sampled_from([0.0, 0.1]),
    different_answers=st.booleans(),
    maximum_pairs_per_prompt=st.none() | st.integers(1, 4),
    aggregate_answers=st.booleans(),
    without_answer=st.sampled_from(["drop", "reject"]),
    truncated=st.sampled_from(["drop", "reject", "keep"]),
)
GROUPS = st.lists(
    st.tuples(
        st.sampled_from(["7", "8", "9", None]), CONFIDENCES, st.sampled_from(["eos", "length"]), st.integers(0, 6)
    ),
    max_size=8,
)


def group_of(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Trace, float | None]]:
    return [
        (trace_for(index, answer, tokens=[first, 3, 2], finish_reason=finish), confidence if answer else None)
        for index, (answer, confidence, finish, first) in enumerate(rows)
    ]


@given(GROUPS, CONFIGURATIONS, st.randoms(use_true_random=False))
def test_order_of_the_traces_changes_nothing(rows: list[Any], config: RankingConfig, random: Any) -> None:
    group = group_of(rows)
    shuffled = random.sample(group, len(group))
    outcomes = []
    for version in (group, shuffled):
        found, report = rank_prompt([trace for trace, _ in version], [value for _, value in version], config)
        outcomes.append(([(indices(pair), pair.gap) for pair in found], report))
    assert outcomes[0] == outcomes[1]


@given(GROUPS, CONFIGURATIONS)
def test_what_holds_for_every_pair(rows: list[Any], config: RankingConfig) -> None:
    group = group_of(rows)
    found, report = rank_prompt([trace for trace, _ in group], [value for _, value in group], config)
    for pair in found:
        chosen, rejected = pair.chosen.trace, pair.rejected.trace
        assert pair.chosen.confidence >= config.threshold
        assert pair.gap > 0
        assert pair.gap >= config.minimum_gap
        assert 0 <= pair.rejected.confidence < pair.chosen.confidence <= 1
        assert chosen.answer is not None
        assert chosen.token_ids.tolist() != rejected.token_ids.tolist()
        if config.different_answers and rejected.answer is not None:
            assert chosen.answer.text != rejected.answer.text
        if config.truncated != "keep":
            assert not chosen.truncated
        if config.truncated == "drop":
            assert not rejected.truncated
        unsure = {index for index, (_, confidence) in enumerate(group) if confidence is None}
        assert chosen.index not in unsure
        if config.without_answer == "drop":
            assert rejected.answer is not None
            assert rejected.index not in unsure
    contents = {(tuple(p.chosen.trace.token_ids), tuple(p.rejected.trace.token_ids)) for p in found}
    assert len(contents) == len(found) == report.pairs
    if config.rule == "best_versus_worst":
        assert len(found) <= 1
    assert len(found) <= (config.maximum_pairs_per_prompt or len(found))
    assert report.prompts_without_pairs == (0 if found else 1)
    assert report.too_few_traces + report.below_threshold + report.undecided == report.prompts_without_pairs


@given(st.lists(st.sampled_from([0.1, 0.5, 0.9, 0.91, 0.97]), max_size=8))
def test_all_pairs_against_the_definition(confidences: list[float]) -> None:
    pairs, _ = ranked(confidences)
    places = range(len(confidences))
    assert set(pairs) == {
        (i, j) for i in places for j in places if confidences[i] >= 0.9 and confidences[i] > confidences[j]
    }
