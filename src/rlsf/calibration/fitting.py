"""Fitting a calibrator to labelled confidences, and what it is worth on questions that it was not fitted on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlsf.calibration.calibrators import (
    Calibrator,
    IsotonicCalibrator,
    Method,
    PlattCalibrator,
    TemperatureCalibrator,
    log_odds,
    logistic,
)
from rlsf.errors import InputError
from rlsf.evaluation.groups import FloatArray, IntArray, checked

#: Fewer labelled answers say nothing about probabilities.
LEAST = 20
#: Temperatures that are searched; one at an end says that certainty is worth nothing, or everything.
TEMPERATURES = (0.01, 100.0)


def fit_calibrator(confidence: ArrayLike, correct: ArrayLike, method: Method = "isotonic") -> Calibrator:
    """The calibrator of ``method`` for confidences [n] in [0, 1] and whether their answers were right [n].

    Raises ``InputError`` for fewer than ``LEAST`` answers or fewer than two right or two wrong ones, for an unknown
    method, and as ``rlsf.evaluation.ece`` does.
    """
    values, outcomes = checked(confidence, correct)
    if method not in FITS:
        raise InputError(f"no calibration method {method!r}: choose {', '.join(FITS)}")
    require_both(outcomes)
    return FITS[method](values, outcomes)


def require_both(outcomes: IntArray) -> None:
    """Raise ``InputError`` unless there are answers enough, right and wrong, to fit on and to cross-validate."""
    right, wrong = int(outcomes.sum()), int((1 - outcomes).sum())
    if right + wrong < LEAST:
        raise InputError(
            f"{right + wrong} answers are too few to calibrate: give more questions, {LEAST} answers are the least"
        )
    if min(right, wrong) < 2:
        raise InputError(
            f"{right} right and {wrong} wrong answers cannot be told apart: calibration needs at least two of each,"
            " give more or other questions"
        )


def _isotonic(confidence: FloatArray, correct: IntArray) -> IsotonicCalibrator:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(confidence, correct)
    knots, values = fitted.X_thresholds_, np.clip(fitted.y_thresholds_, 0.0, 1.0)
    return IsotonicCalibrator(confidence=tuple(knots.tolist()), value=tuple(np.maximum.accumulate(values).tolist()))


def _platt(confidence: FloatArray, correct: IntArray) -> PlattCalibrator:
    """Logistic regression on the log-odds, unregularised, towards (N+ + 1)/(N+ + 2) and 1/(N- + 2) instead of 1 and 0.

    Minimised by Newton's method with halved steps; the objective is convex, so that a negative slope means that 0 is
    the best one allowed. The targets of Platt 1999 keep the minimum finite where the classes are separated; the
    procedure is that of Lin, Lin and Weng 2007 (doi 10.1007/s10994-007-5018-6).
    """
    right, wrong = correct.sum(), (1 - correct).sum()
    targets = np.where(correct == 1, (right + 1) / (right + 2), 1 / (wrong + 2))
    odds = log_odds(confidence)
    flat = PlattCalibrator(slope=0.0, intercept=float(np.log(targets.mean()) - np.log1p(-targets.mean())))
    spread = odds.std()
    if spread < 1e-12:
        return flat
    inputs = np.stack([(odds - odds.mean()) / spread, np.ones(len(odds))], axis=1)
    weights = _newton(inputs, targets, np.array([0.0, flat.intercept]))
    if weights[0] <= 0:
        return flat
    slope = weights[0] / spread
    return PlattCalibrator(slope=float(slope), intercept=float(weights[1] - slope * odds.mean()))


def _newton(inputs: FloatArray, targets: FloatArray, weights: FloatArray) -> FloatArray:
    def loss(weights: FloatArray) -> float:
        scores = inputs @ weights
        return float(np.mean(np.logaddexp(0, scores) - targets * scores))

    current = loss(weights)
    for _ in range(100):
        probability = logistic(inputs @ weights)
        gradient = inputs.T @ (probability - targets) / len(targets)
        if np.abs(gradient).max() < 1e-12:
            break
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs / len(targets)
        step, size = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient), 1.0
        while (lower := loss(weights - size * step)) > current and size > 1e-10:
            size /= 2
        if lower >= current:
            break
        weights, current = weights - size * step, lower
    return weights


def _temperature(confidence: FloatArray, correct: IntArray) -> TemperatureCalibrator:
    """The T that minimises log loss. It is convex in 1/T: the root of its derivative, by bisection."""
    odds = log_odds(confidence)

    def slope(inverse: float) -> float:
        return float(np.mean((logistic(inverse * odds) - correct) * odds))

    low, high = np.log(1 / TEMPERATURES[1]), np.log(1 / TEMPERATURES[0])
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(np.exp(middle)) > 0 else (middle, high)
    return TemperatureCalibrator(temperature=float(np.exp(-(low + high) / 2)))


FITS = {"isotonic": _isotonic, "platt": _platt, "temperature": _temperature}


def folds_of(correct: IntArray, folds: int, seed: int) -> IntArray:
    """A fold 0 ... folds - 1 for each question; right and wrong ones are dealt out alike, so that none takes all."""
    generator = np.random.default_rng(seed)
    member = np.empty(len(correct), np.int64)
    dealt = np.concatenate([generator.permutation(np.flatnonzero(correct == kind)) for kind in (0, 1)])
    member[dealt] = np.arange(len(correct)) % folds
    return member


def out_of_fold(
    confidence: ArrayLike, correct: ArrayLike, method: Method = "isotonic", folds: int = 5, seed: int = 0
) -> FloatArray:
    """The probability [n] that each answer gets from a calibrator fitted on the other folds. Raises as fitting does."""
    values, outcomes = checked(confidence, correct)
    require_both(outcomes)
    member, probability = folds_of(outcomes, folds, seed), np.empty(len(values))
    for fold in range(folds):
        held = member == fold
        probability[held] = FITS[method](values[~held], outcomes[~held]).probability(values[held])
    return probability
