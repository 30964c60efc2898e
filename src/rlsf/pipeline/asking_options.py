"""From what a user says to how questions are asked: a run's recipe, a calibration beside the model, and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlsf.calibration import CALIBRATION, Calibration
from rlsf.errors import InputError
from rlsf.models import model_fingerprint
from rlsf.pipeline.asking import MODES, Asking, AskingMode
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manner import manner_of
from rlsf.pipeline.served import require_served_signal
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import Layer, merge, resolve

#: What of a recipe decides how a question is asked; its questions and its training do not.
SECTIONS = ("recipe", "model", "render", "sampling", "answer", "signal", "seed")
DEFAULT_MODE: AskingMode = "cot_decoding"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingOptions:
    """What is said: a model and dotted keys (``layer``), and where the rest comes from.

    ``kept`` are the settings of a batch that goes on (``settings``); ``layer`` may say them again.
    """

    layer: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    config: Path | None = None
    run: Path | None = None
    calibration: Path | None = None
    mode: AskingMode | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self) -> tuple[Asking, str | None]:
        """How to ask, and why a calibration that lies beside the model is not used, if so.

        Later ones win: the shipped recipe, the recipe of the run that trained the model, what the calibration was made
        for (signal, branches, prompt, answer format), what is said. Where --recipe or --config names a recipe, nothing
        else comes in between. Raises ``InputError`` for a calibration named by the user that does not fit.
        """
        base, kept = self._base()
        recipe = self._recipe(base)
        if recipe.model.path is None:
            raise InputError("no model: say --model FOLDER_OR_HUB_ID, or --run FOLDER")
        found, named = self._calibration(recipe.model.path, kept)
        if found is not None and not (self.recipe or self.config or kept):
            recipe = self._recipe(merge(base, _made_for(found)))
        require_served_signal(recipe.model, recipe.signal)
        wanted = self.mode or kept.get("mode") or (found.mode if found else DEFAULT_MODE)
        mode = _mode_called(wanted)
        if found is None:
            return Asking(recipe, mode), None
        signs = (recipe.signal, mode, model_fingerprint(recipe.model))
        settings = (recipe.sampling.branches, recipe.evaluation.aggregate, manner_of(recipe))
        if named:
            found.require(*signs, *settings)
        misfit = found.misfit(*signs, *settings)
        return Asking(recipe, mode, None if misfit else found), misfit

    def _recipe(self, base: Layer) -> Recipe:
        layer = merge(base, self.layer)
        return resolve(self.recipe or layer.get("recipe"), self.config, layer)

    def _base(self) -> tuple[Layer, Mapping[str, Any]]:
        """The layer under what is said, and the settings that are kept of an earlier start."""
        if self.recipe or self.config:
            if self.run is not None:
                raise InputError("--run names a recipe already: leave out --recipe and --config")
            return {}, {}
        if self.run is not None:
            return of_run(self.run), {}
        if self.kept:
            return dict(self.kept["recipe"]), self.kept
        model = self.layer.get("model", {}).get("path")
        folder = None if model is None else trained_by(Path(model).expanduser())
        return ({} if folder is None else of_run(folder)), {}

    def _calibration(self, model: str, kept: Mapping[str, Any]) -> tuple[Calibration | None, bool]:
        """The calibration, and whether the user named it."""
        named = self.calibration or (Path(kept["calibration"]) if kept.get("calibration") else None)
        if named is not None:
            return Calibration.load(named / CALIBRATION if named.is_dir() else named), True
        folder = Path(model).expanduser()
        return (Calibration.find(folder) if folder.is_dir() else None), False

    def settings(self, asking: Asking) -> dict[str, Any]:
        """What a batch keeps, so that it goes on without being told again."""
        named = self.calibration or self.kept.get("calibration")
        prompts = asking.recipe.prompts.model_dump(mode="json")
        return {
            "recipe": {**settings_of(asking.recipe), "prompts": prompts},
            "mode": asking.mode,
            "calibration": None if named is None else str(named),
        }


def settings_of(recipe: Recipe) -> Layer:
    """What of a recipe decides how questions are asked, as a layer."""
    content = recipe.model_dump(mode="json")
    return {**{name: content[name] for name in SECTIONS}, "evaluation": {"aggregate": recipe.evaluation.aggregate}}


def trained_by(model: Path) -> Path | None:
    """The run folder whose policy this model folder is."""
    folder = RunFolder(model.parent)
    is_policy = model.name == folder.policy.name and folder.recipe_file.is_file()
    return folder.path if is_policy else None


def of_run(path: Path) -> Layer:
    """How the model of a run was asked: its policy, or the model it started from where there is none yet."""
    folder = RunFolder(path)
    if not folder.recipe_file.is_file():
        raise InputError(f"{path} is not a run folder (no {folder.recipe_file.name})")
    recipe = resolve(None, folder.recipe_file)
    layer = settings_of(recipe)
    if folder.policy.is_dir():
        layer["model"] |= {"path": str(folder.policy), "revision": None, "server": None}
    return layer


def _mode_called(name: str) -> AskingMode:
    """The mode of that name; the default for one that a calibration was made for and that is none of ours."""
    for mode in MODES:
        if mode == name:
            return mode
    return DEFAULT_MODE


def _made_for(calibration: Calibration) -> Layer:
    made_for = {
        "signal": calibration.signal,
        "sampling": {"branches": calibration.branches},
        "evaluation": {"aggregate": calibration.aggregate},
    }
    return merge(made_for, calibration.asked or {})
