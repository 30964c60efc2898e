"""Differences of two methods and of many: McNemar, Welch, permutations, and the level under the null."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, permutation_test, ttest_ind

from rlsf.evaluation import Metrics, Sample, resample_counts
from rlsf.evaluation.contrasts import contrast
from rlsf.evaluation.multiple import holm
from rlsf.evaluation.two_level import TwoLevel, two_level


def known(value: float, variance: float = 0.0, seed_variance: float = 0.0, seeds: int = 1) -> TwoLevel:
    """A figure whose resamples have exactly this variance."""
    spread = sqrt(variance)
    return TwoLevel(np.array([value]), np.array([value - spread, value + spread]), seed_variance, seeds)


def resampled(values: np.ndarray, seed: int, name: str, resamples: int = 400) -> TwoLevel:
    """The mean over questions of ``values`` [S, n] and over seeds."""
    counts = next(resample_counts(values.shape[1], resamples, seed))
    return two_level(name, values.mean(axis=1).tolist(), list(values @ counts.T / values.shape[1]), seed)


def mcnemar(gained: int, lost: int, n: int) -> float | None:
    d, variance = (gained - lost) / n, ((gained + lost) / n - ((gained - lost) / n) ** 2) / n
    return contrast(known(0.0), known(d, max(0.0, variance)), n, step=2 / n).p


@pytest.mark.parametrize(("gained", "lost", "n"), [(3, 0, 500), (8, 0, 8), (30, 12, 500), (61, 80, 200), (5, 5, 60)])
def test_accuracy_of_one_seed_is_mcnemars_test(gained: int, lost: int, n: int):
    statistic = max(0, abs(gained - lost) - 1) / sqrt(gained + lost)
    assert mcnemar(gained, lost, n) == pytest.approx(2 * norm.sf(statistic))


def test_few_changed_questions_are_no_proof():
    # Never far more certain than the exact binomial test of the questions that changed.
    for total in range(1, 80):
        for gained in range(total + 1):
            exact = binomtest(gained, total).pvalue
            if exact > 1e-4:
                assert mcnemar(gained, total - gained, 500) > 0.8 * exact, (gained, total)


def test_runs_alone_give_welchs_test():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=3), 1 + 2 * generator.normal(size=5)
    first, second = (known(sample.mean(), 0.0, sample.var(ddof=1) / len(sample), len(sample)) for sample in (a, b))
    second = TwoLevel(second.by_seed, known(b.mean(), first.seed_variance + second.seed_variance).distribution,
                      second.seed_variance, second.seeds)  # fmt: skip
    welch = ttest_ind(b, a, equal_var=False)
    assert contrast(first, second, questions=10**15).p == pytest.approx(welch.pvalue)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1, 0.15])
def test_one_seed_agrees_with_flipping_the_signs_of_questions(shift: float):
    generator = np.random.default_rng(11)
    first = generator.random((1, 120))
    second = np.clip(first + shift + 0.4 * generator.normal(size=(1, 120)), 0, 1)
    ours = contrast(resampled(first, 0, "a", 4000), resampled(second, 0, "b", 4000), 120).p
    exact = permutation_test(
        (first[0], second[0]), lambda x, y, axis: (y - x).mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=20_000, rng=1,
    ).pvalue  # fmt: skip
    assert ours == pytest.approx(exact, rel=0.15, abs=0.003)


@given(
    d=st.floats(-0.6, 0.6),
    variance=st.floats(1e-6, 0.02),
    share=st.floats(0, 1),
    seeds=st.integers(1, 4),
    n=st.integers(200, 2000),
    step=st.sampled_from([0.0, 0.002]),
)
def test_the_interval_excludes_zero_exactly_where_p_is_small(d, variance, share, seeds, n, step):
    part = share * variance if seeds > 1 else 0.0
    found = contrast(known(0.0), known(d, variance, part, seeds), n, step)
    assert found.p is not None
    assert 0 <= found.p <= 1
    low, high = found.interval
    if abs(found.p - 0.05) > 1e-6:
        assert (low > 0 or high < 0) == (found.p < 0.05)
    assert low <= found.value <= high
    mirrored = contrast(known(0.0), known(-d, variance, part, seeds), n, step)
    assert mirrored.p == pytest.approx(found.p)
    assert mirrored.interval == pytest.approx((-high, -low))


def test_nothing_changed_is_certain_of_nothing():
    for variance in (0.0, 0.01):
        found = contrast(known(0.4), known(0.4, variance), 50)
        assert (found.value, found.p) == (0.0, 1.0)
    rounded = contrast(known(0.1 + 0.2), known(0.3), 50)
    assert (rounded.value, rounded.p, rounded.interval) == (0.0, 1.0, (0.0, 0.0))
    assert contrast(known(0.0), known(1.0), questions=1, step=2.0).p == 1.0
    assert contrast(known(0.0), known(1.0), questions=1, step=2.0).interval == (-1.0, 1.0)


def test_an_undefined_figure_has_no_difference():
    undefined = TwoLevel(np.array([np.nan]), np.array([np.nan, np.nan]), 0.0, 0)
    found = contrast(known(0.4), undefined, 50)
    assert (found.value, found.interval, found.p) == (None, None, None)


@pytest.mark.parametrize(
    ("seeds", "spread", "least"), [(1, 0.0, 0.02), (3, 0.0, 0.002), (3, 0.5, 0.01), (2, 0.5, 0.01)]
)
def test_level_of_accuracy(seeds: int, spread: float, least: float):
    # Two methods that draw from the same distribution: 600 experiments at a level of .05 have a standard error of
    # .009, so .086 is four of them. With several seeds the test errs to the safe side.
    generator = np.random.default_rng(3)
    found = 0
    for experiment in range(600):
        hardness = generator.normal(size=(1, 100))
        drawn = [
            hardness + spread * generator.normal(size=(seeds, 1)) + generator.normal(size=(seeds, 100)) > 0
            for _ in range(2)
        ]
        first, second = (
            resampled(one.astype(np.float64), experiment, name, 200) for one, name in zip(drawn, "ab", strict=True)
        )
        found += contrast(first, second, 100, step=2 / (100 * seeds)).p < 0.05
    assert least <= found / 600 <= 0.086


@pytest.mark.parametrize("metric", ["ece", "brier"])
def test_level_of_calibration(metric: str):
    # 200 experiments: a standard error of .0154; .112 is four of those above .05.
    generator = np.random.default_rng(4)
    found = 0
    for experiment in range(200):
        counts = next(resample_counts(150, 150, experiment))
        levels = []
        for name in "ab":
            confidence = generator.random(150)
            correct = (generator.random(150) < confidence**1.7).astype(np.int64)
            measured = Metrics(Sample(confidence, correct, correct, correct))
            levels.append(two_level(name, [measured.values()[metric]], [measured(counts)[metric]], experiment))
        found += contrast(*levels, 150).p < 0.05
    assert 0.005 <= found / 200 <= 0.112


def test_a_real_difference_is_found():
    generator = np.random.default_rng(8)
    hardness = generator.normal(size=(1, 400))
    first, second = ((hardness + shift + generator.normal(size=(3, 400)) > 0) * 1.0 for shift in (0.0, 0.7))
    found = contrast(resampled(first, 0, "a"), resampled(second, 0, "b"), 400)
    assert found.p < 1e-4
    assert found.interval[0] > 0


def test_holm_keeps_the_level_of_the_family():
    # 2,000 families of 15 true nulls: .05 +- .0049 find anything; .07 is four of those above.
    families = np.random.default_rng(6).random((2000, 15))
    assert np.mean([min(holm(row.tolist())) < 0.05 for row in families]) <= 0.07
    assert np.mean(families.min(axis=1) < 0.05) > 0.4
