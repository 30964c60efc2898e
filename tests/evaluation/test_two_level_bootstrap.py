"""Questions and seeds resampled: the plain bootstrap for one seed, closed forms of its variance, its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_ind

from rlsf.evaluation import Metrics, Sample, bootstrap, percentile_interval, resample_counts
from rlsf.evaluation.two_level import TwoLevel, degrees_of_freedom, quantile, resample_questions, two_level


def answers(seeds: int, n: int, generator: np.random.Generator, spread: float = 0.0) -> np.ndarray:
    """Right or wrong, [S, n]: hard and easy questions, and seeds that differ by ``spread`` in probits."""
    skill = (
        generator.normal(size=(1, n)) + spread * generator.normal(size=(seeds, 1)) + generator.normal(size=(seeds, n))
    )
    return (skill > 0).astype(np.float64)


def of_accuracy(correct: np.ndarray, resamples: int, seed: int, name: str = "m") -> TwoLevel:
    counts = next(resample_counts(correct.shape[1], resamples, seed))
    return two_level(name, correct.mean(axis=1).tolist(), list(correct @ counts.T / correct.shape[1]), seed)


def test_one_seed_is_the_plain_bootstrap():
    generator = np.random.default_rng(0)
    correct = generator.integers(0, 2, 70)
    metrics = Metrics(Sample(generator.random(70), correct, correct, correct))
    drawn = resample_questions({("m", 4): metrics}, 70, 500, seed=3)["m", 4]
    plain = bootstrap(metrics, 70, 500, seed=3)
    for name, value in metrics.values().items():
        assert (drawn[name] == plain[name]).all(), name
        one = two_level("m", [value], [drawn[name]], seed=3)
        assert one.interval(-1.0) == percentile_interval(plain[name])
        assert one.value == value


def test_seeds_that_agree_add_nothing():
    correct = np.tile(answers(1, 50, np.random.default_rng(1)), (3, 1))
    three, one = of_accuracy(correct, 400, 0), of_accuracy(correct[:1], 400, 0)
    assert three.distribution == pytest.approx(one.distribution, abs=1e-12)
    assert three.interval() == pytest.approx(one.interval(), abs=1e-12)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_variance_between_seeds_is_the_unbiased_one(seeds: int):
    # Questions say nothing here: every run has one value whichever are drawn. 100,000 resamples: a standard error of
    # the variance of about 0.5 %.
    values = np.random.default_rng(seeds).random(seeds)
    mean = two_level("m", values.tolist(), [np.full(100_000, value) for value in values], seed=0)
    assert mean.seed_variance == pytest.approx(values.var(ddof=1) / seeds)
    assert mean.distribution.var() == pytest.approx(mean.seed_variance, rel=0.03)
    assert mean.distribution.mean() == pytest.approx(values.mean(), abs=0.01)


def test_variance_is_that_of_a_crossed_design():
    # x_sq = a_s + b_q + e_sq. Mean over 4 seeds and 200 questions: var = A/4 + B/200 + E/800, nothing counted twice
    # (but a variance between seeds is never negative, which adds a little on average).
    generator = np.random.default_rng(0)
    a, b, e = 0.02, 0.5, 0.4
    true = a**2 / 4 + b**2 / 200 + e**2 / 800
    estimates = []
    for seed in range(200):
        x = (
            a * generator.normal(size=(4, 1))
            + b * generator.normal(size=(1, 200))
            + e * generator.normal(size=(4, 200))
        )
        estimates.append(of_accuracy(x, 200, seed).distribution.var())
    assert np.mean(estimates) == pytest.approx(true, rel=0.06)


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.0), (3, 0.4), (2, 0.4)])
def test_intervals_cover_new_questions_and_new_seeds(seeds: int, spread: float):
    # Right with probability Phi of a normal score, 1/2 on average. 300 experiments: .95 +- .0126; .90 is four of those.
    generator = np.random.default_rng(7)
    covered = 0
    for seed in range(300):
        low, high = of_accuracy(answers(seeds, 150, generator, spread), 200, seed).interval()
        covered += low <= 0.5 <= high
    assert covered / 300 >= 0.90


def test_percentiles_alone_would_miss_what_few_seeds_hide():
    # What the stretching is for: with seeds that matter, plain percentiles of three runs cover far less than 95 %.
    generator = np.random.default_rng(7)
    plain = 0
    for seed in range(300):
        low, high = percentile_interval(of_accuracy(answers(3, 150, generator, 0.8), 200, seed).distribution)
        plain += low <= 0.5 <= high
    assert plain / 300 < 0.88


def test_degrees_of_freedom_are_welchs():
    generator = np.random.default_rng(2)
    first, second = generator.normal(size=4), 2 * generator.normal(size=3)
    parts = [(sample.var(ddof=1) / len(sample), len(sample)) for sample in (first, second)]
    nu = degrees_of_freedom(sum(part for part, _ in parts), parts)
    assert nu == pytest.approx(ttest_ind(first, second, equal_var=False).df)
    assert degrees_of_freedom(0.1, [(0.0, 1), (0.0, 3)]) == np.inf
    assert degrees_of_freedom(0.1, [(0.1, 3)]) == pytest.approx(2)
    assert quantile(np.inf) == pytest.approx(norm.ppf(0.975))
    assert quantile(2) == pytest.approx(t.ppf(0.975, 2))


def test_runs_where_a_figure_is_undefined_are_left_out():
    runs = [np.array([0.1, 0.2, 0.3]), np.full(3, np.nan)]
    one = two_level("m", [0.2, np.nan], runs, seed=0)
    assert (one.value, one.seeds) == (0.2, 1)
    assert (one.distribution == runs[0]).all()
    none = two_level("m", [np.nan, np.nan], [runs[1], runs[1]], seed=0)
    assert np.isnan(none.value)
    assert none.interval() is None


def test_intervals_stay_in_the_range_of_the_figure():
    values = [1.0, 1.0, 0.9]
    mean = two_level("m", values, [np.full(500, value) for value in values], seed=0)
    low, high = mean.interval(0.0, 1.0)
    assert 0 <= low < mean.value < high == 1.0


def test_draws_of_seeds_depend_on_name_and_seed_only():
    generator = np.random.default_rng(5)
    runs = list(np.array([[0.1], [0.2], [0.3]]) + 0.01 * generator.random((3, 300)))
    drawn = [two_level(name, [0.1, 0.2, 0.3], runs, seed).distribution for name, seed in (("a", 0), ("a", 0), ("b", 0))]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    assert (two_level("a", [0.1, 0.2, 0.3], runs, 1).distribution != drawn[0]).any()
