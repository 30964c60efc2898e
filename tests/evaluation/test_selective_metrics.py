"""Selective prediction: closed forms, parity with scikit-learn and a slow enumeration, invariances."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from rlsf.errors import InputError
from rlsf.evaluation import accuracy_at_coverage, aurc, auroc, excess_aurc, risk_coverage

tied = st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.booleans())
questions = st.lists(st.one_of(tied, st.tuples(st.floats(0, 1), st.booleans())), min_size=1, max_size=30)


def columns(pairs):
    return np.array([c for c, _ in pairs]), np.array([y for _, y in pairs], int)


def orders(confidence, correct):
    """Every ranking that a sort by confidence could produce, as lists of correctness."""
    surest_first = sorted(set(confidence), reverse=True)
    blocks = [[y for c, y in zip(confidence, correct, strict=True) if c == value] for value in surest_first]
    for choice in itertools.product(*(itertools.permutations(block) for block in blocks)):
        yield [y for block in choice for y in block]


def plain_aurc(ranking):
    risks = [1 - sum(ranking[:k]) / k for k in range(1, len(ranking) + 1)]
    return sum(risks) / len(risks)


def test_aurc_by_hand():
    # Ranked right, wrong, right: risks 0, 1/2, 1/3; mean 5/18. Best order right, right, wrong: 0, 0, 1/3; mean 1/9.
    assert aurc([0.9, 0.8, 0.1], [1, 0, 1]) == pytest.approx(5 / 18)
    assert excess_aurc([0.9, 0.8, 0.1], [1, 0, 1]) == pytest.approx(5 / 18 - 1 / 9)


def test_aurc_of_a_tie_is_the_mean_over_both_orders():
    # right, wrong: (0 + 1/2)/2 = 1/4; wrong, right: (1 + 1/2)/2 = 3/4; mean 1/2.
    assert aurc([0.5, 0.5], [1, 0]) == pytest.approx(0.5)


@given(pairs=st.lists(tied, min_size=1, max_size=6))
def test_ties_are_averaged_over_every_order(pairs):
    confidence, correct = columns(pairs)
    rankings = list(orders(confidence, correct))
    assert aurc(confidence, correct) == pytest.approx(np.mean([plain_aurc(r) for r in rankings]), abs=1e-12)
    best = plain_aurc(sorted(correct, reverse=True))
    assert excess_aurc(confidence, correct) == pytest.approx(aurc(confidence, correct) - best, abs=1e-12)
    for coverage in (0.3, 0.5, 1.0):
        answered = math.ceil(coverage * len(pairs))
        expected = np.mean([sum(r[:answered]) / answered for r in rankings])
        assert accuracy_at_coverage(confidence, correct, coverage) == pytest.approx(expected, abs=1e-12)


@given(pairs=questions)
def test_auroc_equals_scikit_learn(pairs):
    confidence, correct = columns(pairs)
    if 0 < correct.sum() < len(correct):
        assert auroc(confidence, correct) == pytest.approx(roc_auc_score(correct, confidence), abs=1e-12)
    else:
        assert math.isnan(auroc(confidence, correct))


@given(pairs=questions, power=st.sampled_from([0.5, 2.0, 3.0]))
def test_ranking_metrics_depend_on_the_order_of_confidences_alone(pairs, power):
    confidence, correct = columns(pairs)
    ranks = np.unique(confidence, return_inverse=True)[1] / len(pairs)
    mapped = ranks**power
    for metric in (auroc, aurc, excess_aurc):
        assert metric(mapped, correct) == pytest.approx(metric(confidence, correct), abs=1e-12, nan_ok=True)


@given(pairs=questions, seed=st.integers(0, 99))
def test_order_of_questions_does_not_matter(pairs, seed):
    confidence, correct = columns(pairs)
    shuffled = np.random.default_rng(seed).permutation(len(pairs))
    for metric in (auroc, aurc, excess_aurc, lambda c, y: accuracy_at_coverage(c, y, 0.5)):
        expected = metric(confidence, correct)
        assert metric(confidence[shuffled], correct[shuffled]) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(pairs=questions)
def test_flipping_right_and_wrong_mirrors_auroc(pairs):
    confidence, correct = columns(pairs)
    assert auroc(confidence, 1 - correct) == pytest.approx(1 - auroc(confidence, correct), abs=1e-12, nan_ok=True)


@given(pairs=questions)
def test_bounds(pairs):
    confidence, correct = columns(pairs)
    assert -1e-12 <= excess_aurc(confidence, correct) <= aurc(confidence, correct) + 1e-12 <= 1 + 2e-12
    assert accuracy_at_coverage(confidence, correct, 1.0) == pytest.approx(correct.mean())


def test_perfect_and_useless_confidence():
    assert auroc([0.9, 0.8, 0.2], [1, 1, 0]) == 1.0
    assert excess_aurc([0.9, 0.8, 0.2], [1, 1, 0]) == pytest.approx(0.0)
    assert auroc([0.5] * 4, [1, 0, 1, 0]) == 0.5
    # A useless confidence has the same risk, 1/2, at every coverage.
    assert aurc([0.5] * 4, [1, 0, 1, 0]) == pytest.approx(0.5)


def test_coverage_counts_are_not_spoilt_by_rounding():
    # 0.7 x 10 is 7.000000000000001 in floating point; seven questions are answered, all right, and not eight.
    confidence = np.linspace(1, 0.1, 10)
    assert accuracy_at_coverage(confidence, [1] * 7 + [0] * 3, 0.7) == 1.0


@given(pairs=questions)
def test_the_mean_risk_of_the_unthinned_curve_is_the_aurc(pairs):
    confidence, correct = columns(pairs)
    curve = risk_coverage(confidence, correct)
    assert np.mean([point.risk for point in curve]) == pytest.approx(aurc(confidence, correct), abs=1e-12)
    assert curve[-1].coverage == 1.0
    assert curve[-1].confidence == confidence.min()
    assert curve[-1].risk == pytest.approx(1 - correct.mean())


def test_a_long_curve_is_thinned_and_keeps_both_ends():
    generator = np.random.default_rng(0)
    curve = risk_coverage(generator.random(1001), generator.integers(0, 2, 1001), points=200)
    assert len(curve) == 200
    assert (curve[0].coverage, curve[-1].coverage) == (1 / 1001, 1.0)
    coverages = [point.coverage for point in curve]
    assert coverages == sorted(set(coverages))


@pytest.mark.parametrize("coverage", [0.0, -0.1, 1.01, float("nan")])
def test_unusable_coverage_is_refused(coverage: float):
    with pytest.raises(InputError, match="coverage"):
        accuracy_at_coverage([0.5], [1], coverage)


def test_a_curve_needs_two_points():
    with pytest.raises(InputError, match="curve of 1 points"):
        risk_coverage([0.5], [1], points=1)
