"""Accuracy over N: against every subset counted by hand, closed forms, and seeds that belong to questions."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.select import (
    Ballot,
    GradedTraces,
    accuracy_curves,
    choose,
    curve_sizes,
    default_exponent,
    parse_selector,
    pass_at,
)
from rlsf.select.subsets import Subsets
from rlsf.select.winners import argmax_accuracy

SELECTORS = ("majority", "weighted", "borda", "borda:1", "borda:2.5", "argmax")
GOLD = "1"
#: Confidences of which every sum is exact, so that ties are ties.
TRACES = st.lists(
    st.tuples(st.sampled_from(["1", "2", "3", None]), st.none() | st.integers(0, 16).map(lambda n: n / 16)),
    min_size=1,
    max_size=6,
)


def graded(traces, id="q") -> GradedTraces:
    answers = [answer for answer, _ in traces]
    ballot = Ballot.of(answers, [confidence for _, confidence in traces])
    return GradedTraces.of(id, ballot, [answer == GOLD for answer in answers])


def random_question(seed: int, traces: int) -> GradedTraces:
    generator = np.random.default_rng(seed)
    answers = generator.choice(["1", "2", "3", None], traces, p=[0.4, 0.3, 0.2, 0.1])
    return graded(list(zip(answers.tolist(), generator.random(traces).tolist(), strict=True)), f"q{seed}")


def counted(selector: str, traces, size: int) -> float:
    """The share of all subsets of ``size`` in which the selector is right, one subset after the other."""
    chosen = []
    for subset in itertools.combinations(traces, size):
        vote = choose(selector, *(list(column) for column in zip(*subset, strict=True)))
        chosen.append(vote is not None and vote.answer == GOLD)
    return statistics.fmean(chosen)


@given(traces=TRACES)
@settings(max_examples=60)
def test_every_subset_counted(traces) -> None:
    sizes = list(range(1, len(traces) + 1))
    curves = accuracy_curves([graded(traces)], list(map(parse_selector, SELECTORS)), sizes, resamples=1)
    for name in SELECTORS:
        expected = [counted(name, traces, size) for size in sizes]
        assert [estimate.value for estimate in curves.accuracy[name]] == pytest.approx(expected), name
    assert [estimate.value for estimate in curves.oracle] == pytest.approx(
        [
            statistics.fmean(any(answer == GOLD for answer, _ in s) for s in itertools.combinations(traces, size))
            for size in sizes
        ]
    )


@given(traces=TRACES)
def test_argmax_in_closed_form(traces) -> None:
    question = graded(traces)
    arrays = question.classes[None], question.sureness[None], question.correct[None]
    for size in range(1, len(traces) + 1):
        assert argmax_accuracy(*arrays, size)[0] == pytest.approx(counted("argmax", traces, size))


def test_random_subsets_come_near_the_closed_form() -> None:
    """A Borda vote with a large exponent is argmax: the mean over random subsets is near the exact expectation."""
    questions = [random_question(seed, 24) for seed in range(60)]
    selectors = [parse_selector(name) for name in ("borda:64", "argmax")]
    curves = accuracy_curves(questions, selectors, [4, 8], subsets=400, resamples=10)
    for drawn, exact in zip(curves.accuracy["borda:64"], curves.accuracy["argmax"], strict=True):
        # A standard error of at most .5 / sqrt(60 * 400).
        assert drawn.value == pytest.approx(exact.value, abs=4 * 0.5 / math.sqrt(60 * 400))
        assert drawn.value != exact.value


def test_the_exponent_is_that_of_the_subset() -> None:
    """Without one of its own, a Borda vote among N of M traces has the exponent of N, not that of M."""
    questions = [random_question(seed, 40) for seed in range(30)]
    sizes = [8, 16, 24, 40]
    named = {size: parse_selector(f"borda:{default_exponent(size)!r}") for size in sizes}
    curves = accuracy_curves(questions, [parse_selector("borda"), *named.values()], sizes, subsets=16, resamples=2)
    for place, (size, selector) in enumerate(named.items()):
        assert curves.accuracy["borda"][place].value == curves.accuracy[selector.name][place].value, size
    small, large = (curves.accuracy[named[size].name] for size in (8, 40))
    assert small[0].value != large[0].value


def test_one_trace_is_the_mean_and_all_are_the_choice() -> None:
    questions = [random_question(seed, 12) for seed in range(5)]
    curves = accuracy_curves(questions, list(map(parse_selector, SELECTORS)), subsets=3)
    assert curves.sizes == [1, 2, 4, 8, 12]
    mean = float(np.mean([question.correct.mean() for question in questions]))
    assert [estimates[0].value for estimates in curves.accuracy.values()] == pytest.approx([mean] * len(SELECTORS))
    assert curves.oracle[0].value == pytest.approx(mean)
    assert curves.oracle[-1].value == np.mean([question.correct.any() for question in questions])


@given(traces=st.integers(1, 30), data=st.data())
def test_pass_at_n(traces: int, data) -> None:
    correct, size = data.draw(st.integers(0, traces)), data.draw(st.integers(1, traces))
    # None of N drawn one after the other is right.
    missed = math.prod((traces - correct - drawn) / (traces - drawn) for drawn in range(size))
    assert pass_at(traces, correct, size) == pytest.approx(1 - max(0.0, missed))


def test_seeds_belong_to_questions() -> None:
    questions = [random_question(seed, 10 + seed % 3) for seed in range(12)]
    selectors = list(map(parse_selector, SELECTORS))
    forwards = accuracy_curves(questions, selectors, [1, 3, 5], subsets=4, resamples=2)
    backwards = accuracy_curves(questions[::-1], selectors, [1, 3, 5], subsets=4, resamples=2)
    alone = [accuracy_curves([question], selectors, [1, 3, 5], subsets=4, resamples=2) for question in questions]
    for name in SELECTORS:
        values = [estimate.value for estimate in forwards.accuracy[name]]
        assert [estimate.value for estimate in backwards.accuracy[name]] == pytest.approx(values, abs=1e-12)
        means = np.mean([[estimate.value for estimate in curves.accuracy[name]] for curves in alone], axis=0)
        assert values == pytest.approx(means)
    other = accuracy_curves(questions, selectors, [1, 3, 5], subsets=4, resamples=2, seed=1)
    assert other.accuracy["majority"][1].value != forwards.accuracy["majority"][1].value


def test_random_subsets_are_nested_and_of_their_size() -> None:
    subsets = Subsets(["a", "b"], 9, 5, seed=0)
    small, large = subsets.of(3), subsets.of(4)
    assert small.shape == large.shape == (2, 5, 9)
    assert (small.sum(-1) == 3).all()
    assert (large.sum(-1) == 4).all()
    assert (large | ~small).all()
    assert (small[0] != small[1]).any()
    assert subsets.of(9).all()
    # As many subsets as traces are counted, not drawn.
    assert sorted(map(tuple, subsets.of(1)[0].tolist())) == sorted(map(tuple, np.eye(9, dtype=bool).tolist()))


def test_gains_are_paired() -> None:
    """Two selectors that always agree differ by nothing, with an interval of no width."""
    questions = [random_question(seed, 9) for seed in range(20)]
    curves = accuracy_curves(questions, list(map(parse_selector, ("majority", "borda:0", "argmax"))), subsets=4)
    assert set(curves.gain) == {"borda:0", "argmax"}
    assert all((e.value, e.low, e.high) == (0, 0, 0) for e in curves.gain["borda:0"])
    surest, plain, gain = curves.accuracy["argmax"][-1], curves.accuracy["majority"][-1], curves.gain["argmax"][-1]
    assert gain.value == pytest.approx(surest.value - plain.value)
    assert gain.low < gain.value < gain.high
    assert plain.low <= plain.value <= plain.high
    assert accuracy_curves(questions, [parse_selector("argmax")]).gain == {}


def test_intervals_are_of_other_questions() -> None:
    """With one trace each, accuracy is a mean of n independent zeros and ones: 1.96 standard errors to either side."""
    questions = [graded([("1" if number % 4 else "2", 0.5)], f"q{number}") for number in range(400)]
    [found] = accuracy_curves(questions, [parse_selector("majority")], resamples=4000).accuracy["majority"]
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert found.value == 0.75
    assert (found.value - found.low, found.high - found.value) == pytest.approx((half, half), rel=0.1)


def test_no_answer_is_never_right() -> None:
    """Whatever the caller says of it: it would count for argmax and for pass@N, and for no vote."""
    question = GradedTraces.of("q", Ballot.of([None, "1"], [0.9, 0.1]), [True, False])
    assert question.correct.tolist() == [False, False]
    curves = accuracy_curves([question], list(map(parse_selector, SELECTORS)), resamples=2)
    assert {estimate.value for estimates in (*curves.accuracy.values(), curves.oracle) for estimate in estimates} == {0}


def test_sizes() -> None:
    assert [curve_sizes(traces) for traces in (1, 2, 10, 64)] == [
        *([1], [1, 2], [1, 2, 4, 8, 10], [1, 2, 4, 8, 16, 32, 64])
    ]
    few, many = random_question(1, 4), random_question(2, 9)
    curves = accuracy_curves([many, few], [parse_selector("majority")], resamples=1)
    assert (curves.sizes, curves.fewest) == ([1, 2, 4], "q1")
    with pytest.raises(InputError, match="from 1 to 4, which is what question 'q1' has"):
        accuracy_curves([few, many], [parse_selector("majority")], [8])
    with pytest.raises(InputError, match="no questions to measure"):
        accuracy_curves([], [parse_selector("majority")])


def test_raw_quantities_may_rank_but_not_weigh() -> None:
    question = graded([("1", 14.0), ("2", -3.0)])
    assert accuracy_curves([question], [parse_selector("argmax")]).accuracy["argmax"][-1].value == 1.0
    with pytest.raises(InputError, match=r"question 'q' has confidences outside \[0, 1\]"):
        accuracy_curves([question], [parse_selector("weighted")])
