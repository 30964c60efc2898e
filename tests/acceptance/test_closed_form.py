"""The loop's closed form against the card's table, simulation and what it says of when a loop helps."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlsf.acceptance.closed_form import Rates, best_threshold, loop_accuracy, mean_rounds, rates_at
from rlsf.errors import InputError

PROBABILITY = st.floats(0, 1)
INNER = st.floats(0.02, 0.98)
#: p = .6, a = .9, b = .3.
KNOWN = Rates(0.6, 0.9, 0.3)


@pytest.mark.parametrize(("rounds", "expected"), [(1, 0.6), (2, 0.744), (3, 0.7930), (6, 0.8172), (400, 0.8182)])
def test_known_values(rounds: int, expected: float) -> None:
    assert loop_accuracy(KNOWN, rounds) == pytest.approx(expected, abs=5e-5)


def test_known_limit_and_cost() -> None:
    assert KNOWN.precision == pytest.approx(0.54 / 0.66)
    assert [mean_rounds(KNOWN, rounds) for rounds in (1, 2, 3)] == pytest.approx([1, 1.34, 1.34 + 0.34**2])
    assert Rates(0.6, 0.0, 0.0).precision is None
    assert mean_rounds(Rates(0.6, 0.0, 0.0), 5) == 5


@pytest.mark.parametrize("rates", [KNOWN, Rates(0.3, 0.5, 0.1), Rates(0.8, 0.2, 0.6)])
def test_simulated_loops(rates: Rates) -> None:
    rounds, questions = 4, 200_000
    random = np.random.default_rng(0)
    right = random.random((questions, rounds)) < rates.right
    accepts = random.random((questions, rounds)) < np.where(right, rates.true, rates.false)
    accepts[:, -1] = True
    used = accepts.argmax(axis=1)
    accuracy = right[np.arange(questions), used].mean()
    assert loop_accuracy(rates, rounds) == pytest.approx(accuracy, abs=4 * 0.5 / math.sqrt(questions))
    assert mean_rounds(rates, rounds) == pytest.approx((used + 1).mean(), abs=4 * rounds / math.sqrt(questions))


@given(p=INNER, a=PROBABILITY, b=PROBABILITY, rounds=st.integers(2, 12))
def test_a_loop_helps_exactly_where_right_attempts_are_accepted_more_often(
    p: float, a: float, b: float, rounds: int
) -> None:
    assume(abs(a - b) > 1e-6)
    gain = loop_accuracy(Rates(p, a, b), rounds) - p
    # Where nearly nothing is rejected the gain may be too small for floating point, but never of the other sign.
    assert gain * math.copysign(1, a - b) > 0


@given(p=PROBABILITY, a=PROBABILITY, rounds=st.integers(1, 12))
def test_a_blind_judge_changes_nothing(p: float, a: float, rounds: int) -> None:
    assert loop_accuracy(Rates(p, a, a), rounds) == pytest.approx(p)


@given(p=INNER, a=INNER, b=INNER)
def test_accuracy_goes_to_the_precision(p: float, a: float, b: float) -> None:
    rates = Rates(p, a, b)
    precision = rates.precision
    assert precision is not None
    gaps = [abs(loop_accuracy(rates, rounds) - precision) for rounds in (1, 2, 4, 8)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(gaps))
    assert loop_accuracy(rates, 2000) == pytest.approx(precision)
    assert mean_rounds(rates, 2000) == pytest.approx(1 / rates.accepted)


#: A score of 0 is that of an attempt without an answer, which is wrong.
SCORED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=12).filter(
    lambda rows: len({right for _, right in rows}) == 2 and all(score > 0 for score, right in rows if right)
)


@given(rows=SCORED, first_right=PROBABILITY, rounds=st.integers(2, 5))
def test_no_threshold_does_better(rows: list[tuple[float, bool]], first_right: float, rounds: int) -> None:
    scores, right = zip(*rows, strict=True)
    best = best_threshold(scores, right, first_right, rounds)
    reached = loop_accuracy(rates_at(scores, right, best, first_right), rounds)
    for threshold in (*scores, 0.0, 1.01):
        assert reached >= loop_accuracy(rates_at(scores, right, threshold, first_right), rounds) - 1e-9


def test_rates_count_what_is_accepted() -> None:
    rates = rates_at([0.9, 0.4, 0.5, 0.1, 0.5], [True, True, False, False, False], 0.5, first_right=0.25)
    assert rates == Rates(0.25, 1 / 2, 2 / 3)


def test_thresholds_stand_between_scores_and_zero_is_left_to_useless_ones() -> None:
    assert best_threshold([0.9, 0.8, 0.2, 0.1], [True, True, False, False], 0.5, 3) == pytest.approx(0.5)
    assert best_threshold([0.2, 0.1, 0.9, 0.8], [True, True, False, False], 0.5, 3) == 0.0
    assert best_threshold([0.5, 0.5], [True, False], 0.5, 3) == 0.0
    assert best_threshold([0.9, 0.2, 0.5], [True, True, False], 1.0, 3) == 0.0, (
        "of equals, the one that asks least often"
    )


def test_an_attempt_without_an_answer_is_accepted_by_no_threshold() -> None:
    assert rates_at([0.0, 0.4, 0.3], [False, True, False], 0.0, 0.5) == Rates(0.5, 1.0, 1 / 2)


def test_refusals() -> None:
    with pytest.raises(InputError, match="of 2 attempts kept out 2 are right and 0 wrong"):
        best_threshold([0.1, 0.2], [True, True], 1.0, 2)
    with pytest.raises(InputError, match=r"a=1\.5 is no probability"):
        Rates(0.5, 1.5, 0.0)
    with pytest.raises(InputError, match="rounds=0: a loop makes at least one attempt"):
        loop_accuracy(KNOWN, 0)
