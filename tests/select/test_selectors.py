"""Selectors: the published vote by rank and its limits, sums of confidences, and what they refuse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from rlsf.answers import aggregate, majority
from rlsf.errors import InputError
from rlsf.select import Ballot, Selector, choose, default_exponent, parse_selector

#: The answers in the order of sureness, as arXiv 2502.18581 is tested by hand.
ANSWERS, SURENESS = ["A", "B", "B", "C"], [4.0, 3.0, 2.0, 1.0]
TRACES = st.lists(
    st.tuples(st.sampled_from(["1", "2", "3", None]), st.none() | st.integers(-40, 40).map(lambda n: n / 8)),
    max_size=12,
)


@pytest.mark.parametrize(
    ("exponent", "sums", "winner"),
    [(0.0, (1, 2, 1), "B"), (1.2, (5.2780, 6.0346, 1), "B"), (2.0, (16, 13, 1), "A")],
)
def test_borda_by_hand(exponent: float, sums: tuple[float, ...], winner: str) -> None:
    selector, ballot = Selector("borda", exponent), Ballot.of(ANSWERS, SURENESS)
    weights = selector.weights(ballot)
    assert [sum(weights[i] for i in members) for members in ballot.classes] == pytest.approx(sums, abs=5e-5)
    vote = selector.choose(ballot)
    assert vote is not None
    assert (vote.answer, vote.weight) == (winner, pytest.approx(max(sums), abs=5e-5))
    assert vote.share == pytest.approx(max(sums) / sum(sums), abs=1e-5)


def test_borda_changes_its_mind_where_the_weights_are_equal() -> None:
    switch = brentq(lambda p: 4**p - 3**p - 2**p, 1, 2)
    assert switch == pytest.approx(1.507127, abs=1e-6)
    winners = [choose(Selector("borda", switch + step), ANSWERS, SURENESS) for step in (-1e-6, 1e-6)]
    assert [vote.answer for vote in winners if vote] == ["B", "A"]


def test_order_of_sampling_does_not_matter_but_for_ties() -> None:
    vote = choose("borda:2", ANSWERS[::-1], SURENESS[::-1])
    assert vote is not None
    assert (vote.answer, vote.index) == ("A", 3)
    tied = choose("borda:1", ["A", "B", "B", "A"], SURENESS)  # 4 + 1 against 3 + 2
    assert tied is not None
    assert tied.answer == "A"


def test_a_trace_without_answer_casts_no_vote_and_holds_its_rank() -> None:
    answers, sureness = [None, "A", "B", "B"], [9.0, 4.0, 3.0, 2.0]
    weights = Selector("borda", 1.0).weights(Ballot.of(answers, sureness))
    assert weights == [4.0, 3.0, 2.0, 1.0]
    vote = choose("borda:1", answers, sureness)
    assert vote is not None
    assert (vote.answer, vote.weight, vote.share) == ("A", 3.0, 0.5)  # a tie of 3 and 2 + 1
    surest = choose("argmax", answers, sureness)
    assert surest is not None
    assert surest.index == 1


def test_aggregated_path_by_hand() -> None:
    # Max-path takes A, the sum takes B.
    answers, confidences = ["A", "B", "B"], [0.9, 0.5, 0.45]
    surest, weighted = choose("argmax", answers, confidences), choose("weighted", answers, confidences)
    assert surest is not None
    assert weighted is not None
    assert (surest.answer, weighted.answer, weighted.weight) == ("A", "B", pytest.approx(0.95))


def test_the_trace_shown_is_the_surest_of_the_winners() -> None:
    vote = choose("majority", ["1", "2", "2.0", "2"], [0.9, 0.1, 0.7, 0.7])
    assert vote is not None
    assert (vote.index, vote.members) == (2, (1, 2, 3))


@given(traces=TRACES)
def test_limits_of_borda(traces) -> None:
    answers, sureness = [answer for answer, _ in traces], [value for _, value in traces]
    assert choose("borda:0", answers, sureness) == choose("majority", answers, sureness)
    large, surest = choose("borda:64", answers, sureness), choose("argmax", answers, sureness)
    assert (large is None) == (surest is None) == all(answer is None for answer in answers)
    if large is not None and surest is not None:
        assert (large.answer, large.index) == (surest.answer, surest.index)
        best = max(value if value is not None else -math.inf for a, value in traces if a is not None)
        assert sureness[surest.index] in (best, None)


@given(traces=TRACES)
def test_only_the_order_counts_for_ranks(traces) -> None:
    answers, sureness = [answer for answer, _ in traces], [value for _, value in traces]
    mapped = [None if value is None else 1 / (1 + math.exp(-value)) for value in sureness]
    for selector in ("argmax", "borda", "borda:0.5", "majority"):
        assert choose(selector, answers, mapped) == choose(selector, answers, sureness)


@given(answers=st.lists(st.sampled_from(["1", "2", None]), max_size=8), data=st.data())
def test_votes_of_rlsf_answers(answers, data) -> None:
    confidences = data.draw(st.lists(st.floats(0, 1), min_size=len(answers), max_size=len(answers)))
    plain, summed = majority(answers), aggregate(answers, confidences)
    chosen = choose("majority", answers, confidences), choose("weighted", answers, confidences)
    assert [vote and (vote.answer, vote.members, vote.weight) for vote in chosen] == [
        vote and (vote.answer, vote.members, vote.weight) for vote in (plain, summed)
    ]


def test_equivalence_is_the_callers() -> None:
    answers, sureness = ["10 km", "10000 m", "3"], [0.1, 0.2, 0.9]
    vote = choose("majority", answers, sureness, lambda one, other: {one, other} == set(answers[:2]))
    assert vote is not None
    assert (vote.answer, vote.members, vote.index) == ("10 km", (0, 1), 1)


def test_the_exponent_grows_with_the_number_of_traces() -> None:
    assert [default_exponent(n) for n in (1, 8, 16, 32, 64)] == pytest.approx([0.3, 0.3, 0.3, 1.2, 1.2])
    assert default_exponent(24) == pytest.approx(0.3 + 0.9 * math.log2(1.5))
    between = [default_exponent(n) for n in range(16, 33)]
    assert between == sorted(between)
    assert parse_selector("borda").exponent_for(64) == 1.2
    assert parse_selector("borda:0.5").exponent_for(64) == 0.5


def test_names_and_mistakes() -> None:
    assert [parse_selector(name).name for name in ("argmax", "borda", "borda:1.20", " weighted ")] == [
        *("argmax", "borda", "borda:1.2", "weighted")
    ]
    mistakes = {
        "bord": r"unknown selector 'bord' \(did you mean 'borda'\?\): use one of argmax, majority, borda",
        "borda:much": r"the exponent 'much' is not a number",
        "borda:-1": r"the exponent must be in \[0, 64\]",
        "borda:nan": r"the exponent must be in",
        "majority:2": r"an exponent means something to borda alone",
    }
    for text, message in mistakes.items():
        with pytest.raises(InputError, match=message):
            parse_selector(text)


def test_unusable_confidences() -> None:
    with pytest.raises(InputError, match=r"confidence 1\.5 of trace 1 is not in \[0, 1\], as the selector weighted"):
        choose("weighted", ["1", "2"], [0.5, 1.5])
    with pytest.raises(InputError, match=r"confidence nan of trace 0 is not finite"):
        choose("argmax", ["1"], [math.nan])
    with pytest.raises(InputError, match="2 answers but 1 confidences"):
        choose("argmax", ["1", "2"], [0.5])


def test_traces_without_confidence() -> None:
    """They come last in rank, and weigh nothing; an answer is still better than none."""
    answers, confidences = ["1", "2", "2"], [0.1, None, None]
    for selector, winner in {"argmax": "1", "weighted": "1", "borda:1": "1", "majority": "2"}.items():
        vote = choose(selector, answers, confidences)
        assert vote is not None
        assert vote.answer == winner
        unknown = choose(selector, answers[1:], confidences[1:])
        assert unknown is not None
        assert unknown.answer == "2"
