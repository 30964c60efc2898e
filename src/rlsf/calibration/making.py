"""Outcomes of labelled questions to a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlsf.calibration.calibration import Calibration, Figures
from rlsf.calibration.calibrators import Method
from rlsf.calibration.fitting import fit_calibrator, out_of_fold
from rlsf.calibration.threshold import Threshold, fit_threshold
from rlsf.errors import InputError
from rlsf.evaluation.calibration import brier, ece, log_loss
from rlsf.evaluation.config import Mode
from rlsf.evaluation.groups import FloatArray, IntArray
from rlsf.evaluation.metrics import Sample
from rlsf.evaluation.outcomes import Outcome

FOLDS = 5


def answered(outcomes: Sequence[Outcome]) -> np.ndarray:
    """Whether each question has an answer and a confidence in it; what has not is never answered."""
    return np.array([outcome.failure is None for outcome in outcomes], bool)


def make_calibration(
    outcomes: Sequence[Outcome],
    *,
    method: Method = "isotonic",
    alpha: float = 0.05,
    delta: float = 0.05,
    signal: str,
    mode: Mode,
    branches: int,
    aggregate: bool,
    model: str,
    fingerprint: str,
    made_from: Sequence[str] = (),
    asked: dict[str, dict[str, Any]] | None = None,
    bins: int = 10,
    seed: int = 0,
) -> Calibration:
    """A calibration from the outcomes of one decoding mode; those of other modes are passed over.

    The calibrator is fitted on questions with an answer; the figures are over all of them, with probability 0 for the
    others, as the evaluation counts them. Raises ``InputError`` where there are no outcomes of that mode, and as
    ``fit_calibrator`` and ``fit_threshold`` do.
    """
    group = sorted((outcome for outcome in outcomes if outcome.mode == mode), key=lambda outcome: outcome.prompt_id)
    if not group:
        raise InputError(f"no outcomes of mode {mode!r} to calibrate: evaluate it, or choose another --mode")
    sample, usable = Sample.of(group), answered(group)
    confidence, correct = sample.confidence[usable], sample.correct[usable]
    calibrator = fit_calibrator(confidence, correct, method)
    probability = np.zeros(len(group))
    probability[usable] = out_of_fold(confidence, correct, method, FOLDS, seed)
    return Calibration(
        signal=signal,
        mode=mode,
        branches=branches,
        aggregate=aggregate,
        asked=asked,
        model=model,
        fingerprint=fingerprint,
        questions=len(group),
        made_from=tuple(made_from),
        unanswered=int((~usable).sum()),
        folds=FOLDS,
        bins=bins,
        raw=_figures(sample.confidence, sample.correct, bins),
        calibrated=_figures(probability, sample.correct, bins),
        calibrator=calibrator,
        threshold=_of_all(fit_threshold(confidence, correct, alpha, delta), len(group)),
    )


def _figures(confidence: FloatArray, correct: IntArray, bins: int) -> Figures:
    return Figures(
        ece=min(1.0, ece(confidence, correct, bins)),
        brier=brier(confidence, correct),
        log_loss=log_loss(confidence, correct),
    )


def _of_all(threshold: Threshold, questions: int) -> Threshold:
    """The threshold with its share counted over all questions: those without an answer are never answered."""
    share = threshold.answered * threshold.questions / questions
    return threshold.model_copy(update={"questions": questions, "answered": share})
