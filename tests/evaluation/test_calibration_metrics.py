"""Calibration: closed forms, parity with scikit-learn and torchmetrics, invariances, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from rlsf.errors import InputError
from rlsf.evaluation import (
    brier,
    ece,
    ece_equal_mass,
    ece_if_calibrated,
    histogram,
    log_loss,
    reliability,
    wilson_interval,
)
from rlsf.evaluation.calibration import LOG_LOSS_CLIP, bin_indices

questions = st.lists(
    st.tuples(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0])), st.booleans()),
    min_size=1,
    max_size=40,
)
METRICS = [ece, ece_equal_mass, brier, log_loss]


def columns(pairs: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([c for c, _ in pairs]), np.array([y for _, y in pairs])


def random_questions(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    confidence = generator.beta(2, 1.5, n)
    return confidence, (generator.random(n) < confidence**1.5).astype(int)


def test_ece_of_the_published_vector_keeps_confidence_zero():
    # Bin of 0: gap 0. Bin (.9, 1]: mean .95, accuracy .5, gap .45 x 2/4 = .225. Bin (.8, .9]: gap .15 x 1/4 = .0375.
    assert ece([0, 0.95, 0.95, 0.85], [0, 1, 0, 1]) == pytest.approx(0.2625, abs=1e-12)


def test_confidence_zero_is_not_dropped():
    # Three right answers at confidence 0 and one at 1: |0 - 1| x 3/4 + 0 x 1/4. Left-open bins would report 0.
    assert ece([0, 0, 0, 1], [1, 1, 1, 1]) == pytest.approx(0.75)


def test_all_wrong_at_high_confidence_is_not_perfectly_calibrated():
    assert ece([0.87] * 5, [0] * 5) == pytest.approx(0.87)
    assert ece_equal_mass([0.87] * 5, [0] * 5) == pytest.approx(0.87)


@pytest.mark.parametrize(
    ("confidence", "index"),
    [(0.0, 0), (1e-12, 0), (0.1, 0), (0.3, 2), (0.6, 5), (0.7, 6), (0.7000001, 7), (0.9, 8), (1.0, 9)],
)
def test_bins_are_right_closed_at_their_decimal_edges(confidence: float, index: int):
    assert bin_indices([confidence], 10).tolist() == [index]


def test_equal_mass_bins_by_hand():
    # Two bins of two: {.1, .2} with accuracy .5 and mean .15, gap .35; {.6, 1} with accuracy 1, mean .8, gap .2.
    assert ece_equal_mass([0.1, 1.0, 0.2, 0.6], [1, 1, 0, 1], bins=2) == pytest.approx((2 * 0.35 + 2 * 0.2) / 4)


def test_a_question_on_an_equal_mass_edge_is_shared():
    # Three questions, two bins of 1.5. Surest bin: .9 wrong and half of .5 right: |.9 - 0 + .5 x (.5 - 1)| = .65.
    # Other bin: half of .5 right and .1 wrong: |.5 x (.5 - 1) + .1| = .15. Sum over n: .8 / 3.
    assert ece_equal_mass([0.9, 0.5, 0.1], [0, 1, 0], bins=2) == pytest.approx(0.8 / 3)


def test_equal_mass_equals_sorted_equal_splits_where_they_exist():
    confidence, correct = random_questions(600)
    order = np.argsort(confidence)
    parts = zip(np.split(confidence[order], 10), np.split(correct[order], 10), strict=True)
    expected = np.mean([abs(c.mean() - y.mean()) for c, y in parts])
    assert ece_equal_mass(confidence, correct) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_equals_torchmetrics(bins: int):
    torch = pytest.importorskip("torch")
    calibration = pytest.importorskip("torchmetrics.functional.classification")
    confidence, correct = random_questions(2000, seed=bins)
    expected = calibration.binary_calibration_error(
        torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct), n_bins=bins, norm="l1"
    )
    assert ece(confidence, correct, bins) == pytest.approx(float(expected), abs=1e-6)


def test_brier_and_log_loss_by_hand():
    # (.8 - 1)^2 = .04 and (.6 - 0)^2 = .36, mean .2; -ln .8 = .223144 and -ln .4 = .916291, mean .569717.
    assert brier([0.8, 0.6], [1, 0]) == pytest.approx(0.2)
    assert log_loss([0.8, 0.6], [1, 0]) == pytest.approx(0.569717, abs=1e-6)


def test_brier_and_log_loss_equal_scikit_learn():
    confidence, correct = random_questions(500)
    assert brier(confidence, correct) == pytest.approx(brier_score_loss(correct, confidence), abs=1e-12)
    assert log_loss(confidence, correct) == pytest.approx(sklearn_log_loss(correct, confidence), abs=1e-12)


def test_log_loss_of_a_certain_mistake_is_clipped():
    assert log_loss([1.0], [0]) == pytest.approx(-math.log(LOG_LOSS_CLIP))
    assert log_loss([0.0], [1]) == pytest.approx(-math.log(LOG_LOSS_CLIP))


@pytest.mark.parametrize("metric", METRICS)
@given(pairs=questions, seed=st.integers(0, 99))
def test_order_of_questions_does_not_matter(metric, pairs, seed):
    confidence, correct = columns(pairs)
    shuffled = np.random.default_rng(seed).permutation(len(pairs))
    assert metric(confidence[shuffled], correct[shuffled]) == pytest.approx(metric(confidence, correct), abs=1e-12)


@given(pairs=questions, bins=st.integers(1, 20))
def test_calibration_errors_are_bounded_and_at_least_the_overall_gap(pairs, bins):
    confidence, correct = columns(pairs)
    for metric in (ece, ece_equal_mass):
        value = metric(confidence, correct, bins)
        assert abs(confidence.mean() - correct.mean()) - 1e-12 <= value <= 1 + 1e-12
    assert 0 <= brier(confidence, correct) <= 1


@given(pairs=questions)
def test_one_bin_is_the_gap_between_confidence_and_accuracy(pairs):
    confidence, correct = columns(pairs)
    gap = abs(confidence.mean() - correct.mean())
    assert ece(confidence, correct, 1) == pytest.approx(gap, abs=1e-12)
    assert ece_equal_mass(confidence, correct, 1) == pytest.approx(gap, abs=1e-12)


@given(pairs=questions)
def test_finer_bins_never_lower_the_error(pairs):
    confidence, correct = columns(pairs)
    assert ece(confidence, correct, 20) >= ece(confidence, correct, 10) - 1e-12


@given(pairs=questions)
def test_every_question_is_in_the_curves_and_the_reliability_curve_gives_the_ece(pairs):
    confidence, correct = columns(pairs)
    curve = reliability(confidence, correct)
    assert sum(point.count for point in curve) == len(pairs)
    gaps = [
        point.count / len(pairs) * abs(point.accuracy - point.mean_confidence)
        for point in curve
        if point.accuracy is not None and point.mean_confidence is not None
    ]
    assert sum(gaps) == pytest.approx(ece(confidence, correct), abs=1e-12)
    counts = histogram(confidence, correct)
    assert sum(point.correct for point in counts) == correct.sum()
    assert sum(point.wrong for point in counts) == len(pairs) - correct.sum()


def test_an_empty_bin_has_no_averages():
    empty = reliability([0.95], [1])[0]
    assert (empty.count, empty.mean_confidence, empty.accuracy, empty.interval) == (0, None, None, None)


def test_wilson_interval_by_hand():
    # z = 1.959964, n = 10, p = .8, z^2/n = .384146: centre (.8 + .192073)/1.384146 = .716740,
    # half width 1.959964 sqrt(.016 + .384146/40)/1.384146 = .226579.
    assert wilson_interval(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-5)
    assert wilson_interval(0, 0) is None
    low, high = wilson_interval(10, 10)
    assert 0.7 < low < high == 1.0


@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([0.5, 1.2], [1, 0], r"confidence 1\.2 at position 1 is not in \[0, 1\]"),
        ([-0.01], [1], r"confidence -0\.01 at position 0"),
        ([0.2, float("nan")], [1, 0], "confidence nan at position 1"),
        ([0.2, float("inf")], [1, 0], "confidence inf at position 1"),
        ([], [], "no questions"),
        ([0.5], [1, 0], r"shape \(1,\).*shape \(2,\)"),
        ([0.5], [2], "correct is 2 at position 0"),
        ([0.5], [float("nan")], "correct is nan at position 0"),
    ],
)
@pytest.mark.parametrize("metric", [*METRICS, reliability, histogram])
def test_unusable_input_is_refused(metric, confidence, correct, message):
    with pytest.raises(InputError, match=message):
        metric(confidence, correct)


@pytest.mark.parametrize("metric", [ece, ece_equal_mass, reliability, histogram])
def test_no_bins_are_refused(metric):
    with pytest.raises(InputError, match="0 bins"):
        metric([0.5], [1], 0)


def test_noise_floor_of_one_question_by_hand():
    # Right with probability .8: |.8 - 1| x .8 + |.8 - 0| x .2 = .32; standard error of 20,000 draws .0017.
    assert ece_if_calibrated([0.8], draws=20_000) == pytest.approx(0.32, abs=0.008)


def test_noise_floor_is_what_calibrated_answers_show():
    generator = np.random.default_rng(0)
    confidence = generator.beta(2, 1.5, 300)
    shown = [ece(confidence, generator.random(300) < confidence) for _ in range(300)]
    assert ece_if_calibrated(confidence) == pytest.approx(np.mean(shown), abs=0.003)
    assert ece_if_calibrated([0.0, 1.0]) == 0.0
