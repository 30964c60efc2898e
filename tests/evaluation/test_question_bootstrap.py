"""The bootstrap: same figures as measuring copies, chunk and order independent, paired, and right on average."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.evaluation import (
    Metrics,
    Sample,
    accuracy_at_coverage,
    aurc,
    auroc,
    bootstrap,
    brier,
    ece,
    ece_equal_mass,
    excess_aurc,
    log_loss,
    percentile_interval,
    probability_of_improvement,
    resample_counts,
)

SINGLE = {
    "ece": ece,
    "ece_equal_mass": ece_equal_mass,
    "brier": brier,
    "log_loss": log_loss,
    "auroc": auroc,
    "aurc": aurc,
    "excess_aurc": excess_aurc,
    "accuracy_at_coverage.0.8": lambda c, y: accuracy_at_coverage(c, y, 0.8),
    "accuracy": lambda c, y: y.mean(),
    "mean_confidence": lambda c, y: c.mean(),
}


def sample(n: int, seed: int, tied: bool = False) -> Sample:
    generator = np.random.default_rng(seed)
    confidence = generator.random(n)
    if tied:
        confidence = np.round(confidence, 1)
    correct = (generator.random(n) < confidence).astype(np.int64)
    return Sample(confidence, correct, correct, generator.integers(1, 90, n))


@given(n=st.integers(1, 25), seed=st.integers(0, 1000), tied=st.booleans())
def test_counts_measure_what_copies_would(n, seed, tied):
    questions = sample(n, seed, tied)
    counts = next(resample_counts(n, 3, seed))
    measured = Metrics(questions, 10, (0.8,))(counts)
    for row, drawn in enumerate(counts):
        confidence, correct = np.repeat(questions.confidence, drawn), np.repeat(questions.correct, drawn)
        for name, metric in SINGLE.items():
            expected = pytest.approx(metric(confidence, correct), abs=1e-9, nan_ok=True)
            assert measured[name][row] == expected, name
        assert measured["mean_tokens"][row] == pytest.approx(np.repeat(questions.tokens, drawn).mean())


def test_every_resample_holds_as_many_questions():
    counts = np.concatenate(list(resample_counts(7, 50, seed=1)))
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()


@pytest.mark.parametrize("chunk", [1, 13, 40, 10_000])
def test_resamples_do_not_depend_on_the_chunk(chunk: int):
    whole = np.concatenate(list(resample_counts(13, 31, seed=5)))
    assert (np.concatenate(list(resample_counts(13, 31, seed=5, chunk=chunk))) == whole).all()


def test_seeds_differ():
    first, second = (next(resample_counts(20, 10, seed)) for seed in (0, 1))
    assert (first != second).any()


def test_accuracy_of_two_questions_has_its_binomial_distribution():
    # One right, one wrong: a resample is right in 0, 1/2, 1 of its questions with probability 1/4, 1/2, 1/4.
    # 20,000 resamples: standard error of a share of 1/4 is .0031; .015 is nearly five of them.
    metrics = Metrics(Sample(np.array([0.7, 0.7]), np.array([1, 0]), np.array([1, 0]), np.array([3, 3])))
    drawn = bootstrap(metrics, 2, 20_000, seed=0)["accuracy"]
    shares = [np.mean(drawn == value) for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.015)


def test_interval_of_accuracy_is_about_that_of_the_normal_approximation():
    questions = sample(400, seed=3)
    low, high = percentile_interval(bootstrap(Metrics(questions), 400, 4000, seed=0)["accuracy"])
    share = questions.correct.mean()
    half = 1.96 * np.sqrt(share * (1 - share) / 400)
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.006)


def test_interval_agrees_with_scipy():
    from scipy.stats import bootstrap as scipy_bootstrap

    questions = sample(200, seed=4)
    ours = percentile_interval(bootstrap(Metrics(questions), 200, 4000, seed=0)["brier"])
    errors = (questions.confidence - questions.correct) ** 2
    theirs = scipy_bootstrap((errors,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_intervals_cover_the_population():
    # Answers are right with probability confidence^2, so every figure of the population is known from a huge sample.
    # 150 experiments of 200 questions: a true coverage of .95 gives .95 +- .018; .88 is four of those below.
    def experiment(n: int, seed: int) -> Metrics:
        generator = np.random.default_rng(seed)
        confidence = generator.beta(2, 1.5, n)
        correct = (generator.random(n) < confidence**2).astype(np.int64)
        return Metrics(Sample(confidence, correct, correct, correct))

    truth = experiment(200_000, seed=10_000).values()
    covered = dict.fromkeys(("accuracy", "brier", "auroc", "aurc", "ece"), 0)
    for seed in range(150):
        drawn = bootstrap(experiment(200, seed), 200, 200, seed)
        for name in covered:
            low, high = percentile_interval(drawn[name])
            covered[name] += low <= truth[name] <= high
    assert all(count / 150 >= 0.88 for count in covered.values()), covered


def test_percentiles_by_hand():
    # Quantiles .025 and .975 of 0, 1, ..., 1000 lie at 25 and 975.
    assert percentile_interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert percentile_interval(np.array([np.nan, 2.0, 2.0])) == (2.0, 2.0)
    assert percentile_interval(np.array([np.nan, np.nan])) is None


def test_the_same_seed_pairs_the_questions():
    # After answers ten more questions than before and loses none: whichever are drawn, it is never behind.
    before = Sample(np.full(50, 0.5), np.arange(50) % 2, np.arange(50) % 2, np.full(50, 9))
    after = Sample(np.full(50, 0.5), np.maximum(before.correct, np.arange(50) < 20), before.correct, np.full(50, 9))
    accuracy = [bootstrap(Metrics(side), 50, 500, seed=2)["accuracy"] for side in (before, after)]
    difference = accuracy[1] - accuracy[0]
    assert difference.min() >= 0
    low, high = percentile_interval(difference)
    unpaired = bootstrap(Metrics(after), 50, 500, seed=3)["accuracy"] - accuracy[0]
    unpaired_low, unpaired_high = percentile_interval(unpaired)
    assert high - low < unpaired_high - unpaired_low


def test_probability_of_improvement_by_hand():
    # Better in two of four, unchanged in one: (2 + .5)/4. Lower is better: (1 + .5)/4.
    difference = np.array([0.1, 0.2, 0.0, -0.1, np.nan])
    assert probability_of_improvement(difference, True) == pytest.approx(0.625)
    assert probability_of_improvement(difference, False) == pytest.approx(0.375)
    assert probability_of_improvement(np.array([np.nan]), True) is None


def test_nothing_to_resample_is_refused():
    with pytest.raises(InputError, match="0 questions"):
        next(resample_counts(0, 10, seed=0))
