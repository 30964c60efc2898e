"""``rlsf calibrate``: confidences to probabilities of being right, and a threshold to answer from."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table

from rlsf.cli.interrupt import resumed_by
from rlsf.cli.options import RecipeOptions
from rlsf.cli.reopen import reopen, split_folder
from rlsf.errors import InputError
from rlsf.invisible import safe

if TYPE_CHECKING:
    from rlsf.calibration import Calibration, Figures
    from rlsf.pipeline.calibrating import CalibrationChoices
    from rlsf.pipeline.context import Run

_RECIPE = RecipeOptions()
FolderAndOverrides = Annotated[
    str,
    Parameter(
        name="[FOLDER] SECTION.KEY=VALUE",
        allow_leading_hyphen=True,
        help="A run folder with an evaluation, left out to sample --model on --data; then keys of the recipe, as for"
        " `rlsf eval`.",
    ),
]


def calibrate(
    *folder_and_overrides: FolderAndOverrides,
    data: str | None = None,
    method: Literal["isotonic", "platt", "temperature"] = "isotonic",
    alpha: float = 0.05,
    delta: float = 0.05,
    mode: Literal["greedy", "cot_decoding", "majority"] = "cot_decoding",
    output: Path | None = None,
    options: RecipeOptions = _RECIPE,
) -> None:
    """Turn confidences into probabilities of being right, and find the confidence from which to answer.

    Parameters
    ----------
    data:
        Labelled questions to calibrate --model on, the same as --eval-data.
    method:
        isotonic: any monotone map; platt: two numbers; temperature: one. With few questions, the
        fewer numbers the better.
    alpha:
        Largest share of wrong answers among those given.
    delta:
        Probability, over the labelled questions, with which that promise may be broken.
    mode:
        The decoding mode to calibrate.
    output:
        File to write; by default calibration.json beside the model's weights.
    """
    from rlsf.pipeline.calibrated import measured_model
    from rlsf.pipeline.calibrating import CalibrationChoices, calibrate_stage, calibration_file, last_phase

    folder, overrides = split_folder(folder_and_overrides)
    if (folder is None) == (options.model is None and options.config is None):
        raise InputError("say what to calibrate: a run folder, or --model MODEL --data FILE")
    if folder is not None and (overrides or data or options != _RECIPE):
        raise InputError(f"{folder} was measured already: no other questions or keys can be said for it here")
    choices = CalibrationChoices(mode, method, alpha, delta)
    if folder is None:
        opening = _measuring(options.measuring(data, overrides), overrides, choices, output)
    else:
        opening = reopen(folder, {}, ())
    with opening as run:
        path = calibration_file(measured_model(run, last_phase(run)), output)
        again = ["rlsf", "calibrate", run.folder.path, "--mode", mode, "--method", method, "--alpha", alpha]
        again += ["--delta", delta, *(["--output", output] if output else [])]
        with resumed_by(*again):
            calibration = calibrate_stage(run, choices)
        replaced = path.exists()
        calibration.save(path)
    _show(calibration, Console())
    _say(f"calibration  {path}{' (replaced)' if replaced else ''}")


def _measuring(
    options: RecipeOptions, overrides: tuple[str, ...], choices: CalibrationChoices, output: Path | None
) -> AbstractContextManager[Run]:
    """A run that measures ``--model`` on ``--data`` in a folder of its own, as ``rlsf eval`` does."""
    from rlsf.pipeline.calibrating import calibration_file
    from rlsf.pipeline.context import Run
    from rlsf.pipeline.folder import RunFolder
    from rlsf.pipeline.preflight import preflight

    recipe = options.resolve(overrides)
    if recipe.evaluation_data is None:
        raise InputError("no labelled questions to calibrate on: say --data FILE")
    calibration_file(recipe.model, output)
    run = Run(recipe, RunFolder(Path("runs") / f"calibrate-{datetime.now():%Y%m%d-%H%M%S}"))
    choices.require_measured(run)
    preflight(run, learns=False)
    return run.open(resume=False)


def _show(calibration: Calibration, console: Console) -> None:
    """Raw and calibrated figures side by side, then what the threshold promises and costs."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(f"{calibration.mode}, {calibration.signal}")
    for name in ("ECE", "Brier", "Log loss"):
        table.add_column(name, justify="right")
    method = f"{calibration.calibrator.method}, out of fold"
    for name, figures in (("raw", calibration.raw), (method, calibration.calibrated)):
        table.add_row(name, *_cells(figures))
    console.print(table)
    questions = f"{calibration.questions} questions, {calibration.unanswered} of them without an answer"
    _say(f"{questions}; out of fold: each by a calibrator fitted on the other {calibration.folds - 1} fifths of them")
    _say(_threshold_line(calibration))
    _say("Made and measured on the same questions: measure on others with `rlsf eval` before relying on it")


def _cells(figures: Figures) -> list[str]:
    return [f"{value:.3f}" for value in (figures.ece, figures.brier, figures.log_loss)]


def _threshold_line(calibration: Calibration) -> str:
    found = calibration.threshold
    promise = f"at most {100 * found.alpha:g} % wrong with probability {1 - found.delta:g}"
    if found.value is None or found.error is None or found.bound is None:
        return f"No threshold answers with {promise}: {found.reason}"
    return (
        f"Answering from confidence {found.value:.4f} on keeps {promise}, on questions like these: answers"
        f" {100 * found.answered:.1f} % of them, {100 * found.error:.1f} % of these wrong"
        f" (bound {100 * found.bound:.1f} %)"
    )


def _say(text: str) -> None:
    Console().print(safe(text), highlight=False, soft_wrap=True, markup=False)
