"""What the calibration beside a measured model makes of its outcomes: the addition to the evaluation's summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlsf.calibration import Calibration
from rlsf.calibration.making import answered
from rlsf.evaluation import Outcome, brier, ece
from rlsf.evaluation.metrics import Sample
from rlsf.evaluation.schema import CalibratedSummary
from rlsf.files import digest
from rlsf.models import model_fingerprint
from rlsf.models.config import ModelConfig
from rlsf.pipeline.context import Run
from rlsf.pipeline.manner import manner_of
from rlsf.prompts.prompt import Prompt


def measured_model(run: Run, phase: str) -> ModelConfig:
    """The model that a phase of the evaluation measures."""
    if phase == "after":
        return run.trained_config(run.recipe.rounds)
    start = run.start_config()
    return start if Path(str(start.path)).exists() else run.recipe.model


def question_digests(questions: Sequence[Prompt]) -> list[str]:
    """Sixteen characters for each question that tell whether another one is the same, whatever its id."""
    return [digest([one.question, list(one.choices), one.turns])[:16] for one in questions]


def add_calibrated(run: Run, summary: dict[str, Any], outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    """Put figures of calibrated confidences beside the raw ones of each phase whose model has a calibration.

    One that was made for another signal, number of branches, model or way of asking is not used, and a warning says so.
    """
    if run.recipe.model.server is not None:
        return
    for phase, measured in outcomes.items():
        model = measured_model(run, phase)
        calibration = Calibration.find(Path(str(model.path)).expanduser())
        if calibration is None or calibration.mode not in summary[phase]:
            continue
        sampling, evaluation = run.recipe.sampling, run.recipe.evaluation
        difference = calibration.misfit(
            *(run.recipe.signal, calibration.mode, model_fingerprint(model), sampling.branches, evaluation.aggregate),
            manner_of(run.recipe),
        )
        if difference is not None:
            run.progress.warn(f"the calibration of {model.path} is not used: it was made for {difference}")
            continue
        figures = calibrated_figures(calibration, measured, question_digests(run.questions), evaluation.bins)
        summary[phase][calibration.mode]["calibrated"] = figures.model_dump(mode="json")


def calibrated_figures(
    calibration: Calibration, outcomes: Sequence[Outcome], digests: Sequence[str], bins: int
) -> CalibratedSummary:
    """The figures of the outcomes of the calibration's mode.

    Where it was made from any of the questions, ECE and Brier are its cross-validated ones: these would flatter it.
    """
    group = [outcome for outcome in outcomes if outcome.mode == calibration.mode]
    sample = Sample.of(group)
    probability, kept = calibration.of_questions(sample.confidence, answered(group))
    held_out = not set(digests) & set(calibration.made_from)
    return CalibratedSummary(
        method=calibration.calibrator.method,
        held_out=held_out,
        ece=ece(probability, sample.correct, bins) if held_out else calibration.calibrated.ece,
        brier=brier(probability, sample.correct) if held_out else calibration.calibrated.brier,
        alpha=calibration.threshold.alpha,
        delta=calibration.threshold.delta,
        threshold=calibration.threshold.value,
        answered=float(kept.mean()),
        error=float(1 - np.mean(sample.correct[kept])) if kept.any() else None,
    )
