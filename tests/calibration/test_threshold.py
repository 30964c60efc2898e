"""The threshold's promise, by simulation of laws whose selective risk is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from rlsf.calibration import fit_threshold
from rlsf.calibration.threshold import binomial_tail, smallest_count, upper_bound
from rlsf.calibration.threshold import tested_counts as counts_tested
from rlsf.errors import InputError

DRAWS, DELTA = 2000, 0.1


class Cubic:
    """Confidence uniform on [0, 1], wrong with probability a + b (1 - c)^3: R(t) = a + b (1 - t)^3 / 4."""

    def __init__(self, a: float, b: float) -> None:
        self.a, self.b = a, b

    def draw(self, generator, n):
        confidence = generator.random(n)
        return confidence, generator.random(n) >= self.a + self.b * (1 - confidence) ** 3

    def risk(self, t: float) -> float:
        return self.a + self.b * (1 - t) ** 3 / 4


class Levels:
    """Confidences that many questions share, as vote shares: probability and risk of each level, the surest first."""

    def __init__(self, levels, shares, risks) -> None:
        self.levels, self.shares, self.risks = np.array(levels), np.array(shares), np.array(risks)

    def draw(self, generator, n):
        level = generator.choice(len(self.levels), n, p=self.shares)
        return self.levels[level], generator.random(n) >= self.risks[level]

    def risk(self, t: float) -> float:
        kept = self.levels >= t
        return float((self.shares * self.risks)[kept].sum() / self.shares[kept].sum())


class Jump:
    """Uniform confidence but for one value that a few share and where the error leaps over alpha; worse ones follow.

    The share ``first`` is above that value and wrong at ``risk``, ``mass`` is at it and nearly always wrong.
    """

    def __init__(self, first: float, mass: float, risk: float) -> None:
        self.first, self.mass, self.risks = first, mass, np.array([risk, 0.9, 0.11])

    def draw(self, generator, n):
        place = generator.random(n)
        part = np.digitize(place, [self.first, self.first + self.mass])
        return np.where(part == 1, 1 - self.first - self.mass, 1 - place), generator.random(n) >= self.risks[part]

    def risk(self, t: float) -> float:
        above = min(1 - t, self.first)
        at = self.mass if t <= 1 - self.first - self.mass else 0.0
        below = max(1 - t - self.first - self.mass, 0.0)
        return float(np.dot([above, at, below], self.risks)) / max(above + at + below, 1e-12)


class Overconfident:
    """Uniform confidence; the surest tenth errs in 15 %, the middle in 1 %, the rest in 40 %: R falls, then rises."""

    def draw(self, generator, n):
        confidence = generator.random(n)
        risk = np.where(confidence > 0.9, 0.15, np.where(confidence > 0.5, 0.01, 0.4))
        return confidence, generator.random(n) >= risk

    def risk(self, t: float) -> float:
        above, middle, low = min(1 - t, 0.1), min(max(0.9 - t, 0), 0.4), max(0.5 - t, 0)
        return (0.15 * above + 0.01 * middle + 0.4 * low) / max(1 - t, 1e-12)


LAWS = {
    "steep": Cubic(0.0, 1.0),
    "noisy at the top": Cubic(0.05, 0.5),
    "nowhere good": Cubic(0.1001, 0.0),
    "crosses late": Cubic(0.0, 0.42),
    "votes": Levels([1.0, 0.8, 0.6, 0.4, 0.2], [0.35, 0.2, 0.2, 0.15, 0.1], [0.02, 0.1, 0.3, 0.6, 0.9]),
    "votes, jump": Levels([1.0, 0.5], [0.5, 0.5], [0.06, 0.1402]),
    "votes, all bad": Levels([1.0, 0.75, 0.5, 0.25], [0.25] * 4, [0.1001, 0.1001, 0.2, 0.4]),
    "a value that few share": Jump(0.47, 0.032, 0.05),
    "sure and wrong": Overconfident(),
}


@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("name", LAWS)
def test_the_promise_is_kept(name: str, n: int) -> None:
    """Over 2000 draws of the calibration questions the risk exceeds alpha at most as often as delta allows."""
    law, generator = LAWS[name], np.random.default_rng([n, len(name)])
    found = [fit_threshold(*law.draw(generator, n), 0.1, DELTA).value for _ in range(DRAWS)]
    broken = sum(value is not None and law.risk(value) > 0.1 for value in found) / DRAWS
    assert broken <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / DRAWS)


def test_the_promise_is_not_kept_by_answering_nothing() -> None:
    """Where 47 % could be answered at that error, 300 questions find most of it; at delta .1 some draws break it."""
    law, generator = LAWS["steep"], np.random.default_rng(5)
    found = [fit_threshold(*law.draw(generator, 300), 0.1, DELTA) for _ in range(500)]
    largest = 0.4 ** (1 / 3)  # of (1 - t)^3 / 4 <= 0.1
    assert np.mean([one.answered for one in found]) > 0.75 * largest
    assert np.mean([one.value is not None for one in found]) > 0.98
    assert np.mean([one.value is not None and law.risk(one.value) > 0.1 for one in found]) > 0.01


def test_more_questions_answer_more() -> None:
    law = LAWS["steep"]
    shares = [
        np.mean([fit_threshold(*law.draw(np.random.default_rng([n, i]), n), 0.1, 0.05).answered for i in range(100)])
        for n in (100, 400, 1600)
    ]
    assert shares[0] < shares[1] < shares[2]


def test_equal_confidences_are_answered_together() -> None:
    confidence = np.repeat([1.0, 0.5], [80, 120])
    correct = np.concatenate([np.ones(80), np.arange(120) % 2])
    found = fit_threshold(confidence, correct, 0.05, 0.05)
    assert (found.value, found.answered, found.error) == (1.0, 0.4, 0.0)
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / 80))
    assert found.answers([0.5, 0.999, 1.0]).tolist() == [False, False, True]


def test_a_shared_confidence_is_met_by_a_test_of_its_own() -> None:
    """59 and 93 are tested in any case; of two equal confidences between them one is wrong, one too many of 71."""
    confidence = np.linspace(1, 0.5, 200)
    correct = np.ones(200)
    correct[69] = 0
    assert fit_threshold(confidence, correct, 0.05, 0.05).answered == 1.0, "one error of 93 is allowed"
    confidence[70] = confidence[69]
    correct[150:] = 0
    assert fit_threshold(confidence, correct, 0.05, 0.05).answered == 59 / 200


@given(st.integers(1, 400), st.floats(0.01, 0.5), st.data())
def test_binomial_tail_is_exact(trials: int, rate: float, data) -> None:
    errors = data.draw(st.integers(0, trials))
    assert binomial_tail(errors, trials, rate) == pytest.approx(binom.cdf(errors, trials, rate), rel=1e-9, abs=1e-14)


@given(st.integers(1, 400), st.floats(0.01, 0.5), st.data())
def test_bound_is_that_of_clopper_and_pearson(trials: int, delta: float, data) -> None:
    errors = data.draw(st.integers(0, trials))
    expected = 1.0 if errors == trials else beta.ppf(1 - delta, errors + 1, trials - errors)
    assert upper_bound(errors, trials, delta) == pytest.approx(expected, rel=1e-8)


@given(st.integers(1, 600), st.sampled_from([0.02, 0.05, 0.1, 0.3]), st.sampled_from([0.01, 0.05, 0.2]))
def test_counts_are_those_at_which_one_more_error_is_allowed(n: int, alpha: float, delta: float) -> None:
    counts = counts_tested(n, alpha, delta)
    if n < smallest_count(alpha, delta):
        assert counts == ()
        return
    allowed = [int(np.sum(binom.cdf(np.arange(k + 1), k, alpha) <= delta)) for k in range(n + 1)]
    assert counts[-1] == n
    assert all(allowed[count] > allowed[count - 1] for count in counts[:-1])
    assert all(count >= min(n / 5, n) for count in counts)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=150), st.floats(0.05, 0.4))
def test_what_is_claimed_is_what_the_questions_show(pairs, alpha: float) -> None:
    confidence, correct = (np.array(column) for column in zip(*pairs, strict=True))
    found = fit_threshold(confidence, correct, alpha, 0.1)
    kept = found.answers(confidence)
    assert found.answered == pytest.approx(kept.mean())
    if found.value is None:
        assert found.error is None
        assert found.reason
        assert not kept.any()
    else:
        assert found.error == pytest.approx(1 - correct[kept].mean())
        assert found.bound is not None
        assert found.error <= found.bound <= alpha + 1e-9


def test_order_of_the_questions_does_not_matter() -> None:
    generator = np.random.default_rng(2)
    confidence, correct = LAWS["votes"].draw(generator, 300)
    shuffled = generator.permutation(300)
    assert fit_threshold(confidence, correct) == fit_threshold(confidence[shuffled], correct[shuffled])


def test_no_threshold_says_why() -> None:
    few = fit_threshold(np.full(20, 0.9), np.ones(20), 0.05, 0.05)
    assert few.value is None
    assert "20 questions are too few: 59 right answers" in str(few.reason)
    bad = fit_threshold(np.linspace(0, 1, 200), np.arange(200) % 2, 0.05, 0.05)
    assert bad.value is None
    assert "too many to show an error of at most 0.05" in str(bad.reason)


@pytest.mark.parametrize(("alpha", "delta"), [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.5), (math.nan, 0.1)])
def test_levels_outside_their_range_are_refused(alpha: float, delta: float) -> None:
    with pytest.raises(InputError, match="give a share between 0 and 1"):
        fit_threshold(np.full(100, 0.9), np.ones(100), alpha, delta)
