"""Calibrators against independent references: scikit-learn, a general maximiser, a law with a known temperature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from rlsf.calibration import fit_calibrator, out_of_fold
from rlsf.calibration.calibrators import log_odds, logistic
from rlsf.calibration.fitting import folds_of
from rlsf.errors import InputError
from rlsf.evaluation import brier, ece, log_loss
from rlsf.evaluation.calibration import LOG_LOSS_CLIP

METHODS = ("isotonic", "platt", "temperature")


def law(n: int, seed: int, temperature: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences that are too sure: right with probability logistic(log-odds / temperature)."""
    generator = np.random.default_rng(seed)
    confidence = logistic(generator.normal(1.0, 3.0, n))
    return confidence, generator.random(n) < logistic(log_odds(confidence) / temperature)


def labelled() -> st.SearchStrategy[list[tuple[float, bool]]]:
    """Confidences, many equal, the ends among them, with at least two right and two wrong answers."""
    one = st.tuples(
        st.one_of(st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False)), st.booleans()
    )
    ends = [(0.0, False), (0.3, False), (0.5, True), (1.0, True)]
    return st.lists(one, min_size=16, max_size=60).map(lambda drawn: drawn + ends)


@given(labelled(), st.sampled_from(METHODS), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_monotone_and_in_range(pairs, method, asked) -> None:
    confidence, correct = (np.array(column) for column in zip(*pairs, strict=True))
    probability = fit_calibrator(confidence, correct, method).probability(np.sort(asked))
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability) >= -1e-12).all()


@given(labelled())
def test_isotonic_is_that_of_scikit_learn(pairs) -> None:
    confidence, correct = (np.array(column, float) for column in zip(*pairs, strict=True))
    reference = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(confidence, correct)
    asked = np.concatenate([confidence, np.linspace(0, 1, 101)])
    np.testing.assert_allclose(
        fit_calibrator(confidence, correct, "isotonic").probability(asked), reference.predict(asked), atol=1e-12
    )


def test_isotonic_means_of_equal_confidences() -> None:
    """Where groups of equal confidences are ordered already, each gets its own share of right answers."""
    confidence = np.repeat([0.2, 0.6, 0.9], [10, 20, 30])
    correct = np.concatenate([np.arange(10) < 2, np.arange(20) < 10, np.arange(30) < 27])
    fitted = fit_calibrator(confidence, correct, "isotonic")
    np.testing.assert_allclose(fitted.probability([0.0, 0.2, 0.4, 0.6, 0.9, 1.0]), [0.2, 0.2, 0.35, 0.5, 0.9, 0.9])


@pytest.mark.parametrize("seed", range(4))
def test_platt_is_the_maximum_of_its_likelihood(seed: int) -> None:
    confidence, correct = law(150, seed)
    right, wrong = correct.sum(), (~correct).sum()
    targets = np.where(correct, (right + 1) / (right + 2), 1 / (wrong + 2))
    odds = np.log(confidence / (1 - confidence))

    def loss(weights):
        return np.mean(np.logaddexp(0, weights[0] * odds + weights[1]) - targets * (weights[0] * odds + weights[1]))

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000})
    fitted = fit_calibrator(confidence, correct, "platt")
    np.testing.assert_allclose([fitted.slope, fitted.intercept], best.x, rtol=1e-5, atol=1e-6)


def test_platt_never_turns_the_order_around() -> None:
    confidence, correct = law(200, 1)
    fitted = fit_calibrator(confidence, ~correct, "platt")
    right, wrong = (~correct).sum(), correct.sum()
    mean = (right * (right + 1) / (right + 2) + wrong / (wrong + 2)) / 200
    assert fitted.slope == 0
    np.testing.assert_allclose(fitted.probability([0.01, 0.99]), mean)


def test_platt_of_separated_classes_is_finite() -> None:
    confidence = np.concatenate([np.linspace(0, 0.4, 20), np.linspace(0.6, 1, 20)])
    fitted = fit_calibrator(confidence, confidence > 0.5, "platt")
    assert 0 < fitted.slope < 100
    assert fitted.probability(0.0) < 0.05 < 0.95 < fitted.probability(1.0)


def test_one_confidence_for_all_says_nothing_but_the_share() -> None:
    correct = np.arange(40) < 30
    np.testing.assert_allclose(fit_calibrator(np.full(40, 0.9), correct, "isotonic").probability([0.1, 0.9]), 0.75)
    np.testing.assert_allclose(
        fit_calibrator(np.full(40, 0.9), correct, "platt").probability([0.1, 0.9]), (30 * 31 / 32 + 10 / 12) / 40
    )


@pytest.mark.parametrize("temperature", [0.4, 1.0, 5.0])
def test_temperature_is_recovered(temperature: float) -> None:
    confidence, correct = law(60_000, 7, temperature)
    assert fit_calibrator(confidence, correct, "temperature").temperature == pytest.approx(temperature, rel=0.05)


def test_temperature_is_where_log_loss_is_least() -> None:
    confidence, correct = law(300, 3)
    fitted = fit_calibrator(confidence, correct, "temperature")

    def loss(temperature: float) -> float:
        return log_loss(logistic(log_odds(confidence) / temperature), correct)

    assert all(loss(fitted.temperature) < loss(fitted.temperature * factor) for factor in (0.9, 0.99, 1.01, 1.1))


def test_ends_are_clipped_as_the_log_loss_clips_them() -> None:
    np.testing.assert_array_equal(log_odds([0.0, 1.0]), log_odds([LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP]))
    assert np.isfinite(log_odds([0.0, 1.0])).all()


@pytest.mark.parametrize("method", METHODS)
def test_out_of_fold_figures_are_those_of_new_questions(method: str) -> None:
    """Cross-validated figures agree with those on 20 000 other questions, and are far better than the raw ones."""
    confidence, correct = law(1000, 11)
    others, truth = law(20_000, 12)
    held_out = out_of_fold(confidence, correct, method)
    on_others = fit_calibrator(confidence, correct, method).probability(others)
    assert brier(held_out, correct) == pytest.approx(brier(on_others, truth), abs=0.02)
    assert ece(on_others, truth) < 0.5 * ece(others, truth)


def test_no_question_is_fitted_on_itself() -> None:
    """The one right answer at a confidence of its own gets, out of its fold, the share of the wrong ones around it."""
    confidence = np.concatenate([np.linspace(0.1, 0.4, 40), [0.7, 0.95, 0.95, 0.95]])
    correct = np.concatenate([np.zeros(40), [1, 0, 0, 0]])
    correct[0] = 1
    assert out_of_fold(confidence, correct, "isotonic")[40] == pytest.approx(1 / 34, abs=0.02)


def test_folds_share_out_right_and_wrong_answers() -> None:
    correct = np.array([1, 1] + [0] * 38)
    member = folds_of(correct, 5, 0)
    assert np.bincount(member).tolist() == [8] * 5
    assert member[0] != member[1]


@pytest.mark.parametrize(
    ("confidence", "correct", "words"),
    [
        (np.full(10, 0.5), np.arange(10) % 2, "10 answers are too few"),
        (np.full(40, 0.5), np.ones(40), "40 right and 0 wrong"),
        (np.full(40, 0.5), np.arange(40) < 39, "39 right and 1 wrong"),
        (np.full(40, np.nan), np.arange(40) % 2, "not in"),
        (np.full(40, 1.5), np.arange(40) % 2, "not in"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_unusable_questions_are_refused_in_one_line(confidence, correct, words, method) -> None:
    with pytest.raises(InputError, match=words) as error:
        fit_calibrator(confidence, correct, method)
    assert "\n" not in str(error.value)


def test_unusable_requests_are_refused() -> None:
    confidence, correct = law(50, 0)
    with pytest.raises(InputError, match="beta"):
        fit_calibrator(confidence, correct, "beta")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"1\.2 is not in"):
        fit_calibrator(confidence, correct, "platt").probability([0.5, 1.2])
