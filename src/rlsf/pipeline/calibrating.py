"""The calibration stage: outcomes of the evaluation to a calibration beside the model that was measured."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from rlsf.calibration import CALIBRATION, Calibration, Method, make_calibration
from rlsf.calibration.fitting import LEAST
from rlsf.errors import InputError
from rlsf.evaluation import Mode, table_to_outcomes
from rlsf.files import writing
from rlsf.models import model_fingerprint
from rlsf.models.config import ModelConfig
from rlsf.pipeline.calibrated import measured_model, question_digests
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import OUTCOMES, evaluate_stage
from rlsf.pipeline.manner import manner_of


@dataclass(frozen=True, slots=True)
class CalibrationChoices:
    """What is asked of a calibration: of which decoding mode, how, and how often its threshold may let errors pass."""

    mode: Mode = "cot_decoding"
    method: Method = "isotonic"
    alpha: float = 0.05
    delta: float = 0.05

    def __post_init__(self) -> None:
        for name, level in (("alpha", self.alpha), ("delta", self.delta)):
            if not 0 < level < 1:
                raise InputError(f"--{name} {level:g}: give a share between 0 and 1, such as 0.05")

    def require_measured(self, run: Run) -> None:
        """Raise ``InputError`` unless the run has labelled questions and measures the decoding mode."""
        if run.recipe.evaluation_data is None or not run.questions:
            raise InputError(
                f"no labelled questions to calibrate on in {run.folder.path}: say --model MODEL --data FILE, or measure"
                " the run first with `rlsf eval RUN_FOLDER --data FILE`"
            )
        if len(run.questions) < LEAST:
            raise InputError(
                f"{len(run.questions)} labelled questions are too few to calibrate: give more, {LEAST} answers are the"
                " least"
            )
        measured = run.recipe.evaluation.modes
        if self.mode not in measured:
            raise InputError(
                f"--mode {self.mode} is not measured here: choose one of {', '.join(measured)}, or add it to"
                " evaluation.modes"
            )


def last_phase(run: Run) -> str:
    """The phase whose model a run is about: its policy where it has one."""
    return "after" if run.folder.policy.exists() else "before"


def calibrate_stage(run: Run, choices: CalibrationChoices) -> Calibration:
    """Make a calibration from the evaluation of the run's policy, or of its model where it trained none.

    What is evaluated already is not sampled again. Raises ``InputError`` without labelled questions, without outcomes
    of the mode, and as ``rlsf.calibration.fit_calibrator`` does.
    """
    choices.require_measured(run)
    phase = last_phase(run)
    model = measured_model(run, phase)
    evaluate_stage(run, phase, model)
    recipe = run.recipe
    return make_calibration(
        table_to_outcomes(pq.read_table(run.folder.evaluation(phase) / OUTCOMES)),
        method=choices.method,
        alpha=choices.alpha,
        delta=choices.delta,
        signal=recipe.signal,
        mode=choices.mode,
        branches=recipe.sampling.branches,
        aggregate=recipe.evaluation.aggregate,
        asked=manner_of(recipe),
        model=str(model.path),
        fingerprint=model_fingerprint(model),
        made_from=question_digests(run.questions),
        bins=recipe.evaluation.bins,
        seed=recipe.seed,
    )


def calibration_file(model: ModelConfig, output: Path | None) -> Path:
    """Where the calibration of a model goes: ``output``, or beside its weights.

    Raises ``InputError`` where there is no such folder of the user's: a hub id, a server, a folder not to be written.
    """
    if output is not None:
        if output.is_dir():
            raise InputError(f"--output {output} is a folder: give the file to write, such as {output / CALIBRATION}")
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(output.parent, os.W_OK):
            raise InputError(f"not allowed to write to {output.parent}: choose another --output")
        return output
    folder = Path(str(model.path)).expanduser()
    if model.server is not None or not folder.is_dir():
        raise InputError(
            f"{model.path} has no folder of yours to keep a calibration in: say --output FILE where that is a hub id or"
            " a server's, else mend the path"
        )
    if not os.access(folder, os.W_OK):
        raise InputError(f"not allowed to write to {folder}: say --output FILE")
    return folder / CALIBRATION
