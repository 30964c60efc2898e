"""Options that several commands share, and how they become a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import merge, parse_overrides, resolve

Overrides = Annotated[
    str,
    Parameter(
        name="SECTION.KEY=VALUE",
        allow_leading_hyphen=True,
        help="Any key of the recipe, for example --sampling.branches 5 (see --dry-run for all of them).",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeOptions:
    """What to run."""

    model: str | None = None
    """Model to start from: a folder or a hub id."""
    prompts: str | None = None
    """Unlabelled questions: a file, a hub id, a preset (gsm8k), or a preset over a file (gsm8k:FILE)."""
    eval_data: str | None = None
    """Labelled questions to measure on, given like --prompts."""
    recipe: str | None = None
    """Name of the method; `rlsf recipes` lists them."""
    config: Path | None = None
    """A recipe file of your own (YAML); it may name a shipped recipe to build on."""

    def resolve(self, overrides: tuple[str, ...]) -> Recipe:
        """The recipe under all layers: shipped, file, these options, dotted overrides."""
        return resolve(self.recipe, self.config, merge(self.layer(), parse_overrides(overrides)))

    def layer(self) -> dict[str, Any]:
        """These options as a layer of a recipe."""
        from rlsf.prompts import prompt_source, with_defaults

        layer: dict[str, Any] = {}
        if self.model is not None:
            layer["model"] = {"path": self.model}
        if self.prompts is not None:
            prompts = with_defaults(prompt_source(self.prompts), evaluation=False)
            layer["prompts"] = prompts.model_dump(exclude_unset=True)
        if self.eval_data is not None:
            questions = with_defaults(prompt_source(self.eval_data), evaluation=True)
            layer["evaluation_data"] = questions.model_dump(exclude_unset=True)
        return layer


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Where to run, and whether to go on or only to show."""

    output: Path | None = None
    """Run folder; by default runs/RECIPE-DATE-TIME."""
    resume: Annotated[bool, Parameter(negative="")] = False
    """Go on with the run in --output where it stopped."""
    dry_run: Annotated[bool, Parameter(negative="")] = False
    """Print the resolved recipe and stop."""

    def folder(self, recipe: Recipe) -> Path:
        """The run folder: as given, or named after the recipe and the time."""
        return self.output or Path("runs") / f"{recipe.recipe}-{datetime.now():%Y%m%d-%H%M%S}"
