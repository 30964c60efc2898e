"""Options that several commands share, and how they become a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rlsf.cli.routes import require_used
from rlsf.errors import InputError
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import flatten, merge, parse_overrides, resolve
from rlsf.recipes.sources import source_layer
from rlsf.sampling.executor import ExecutorOptions

Overrides = Annotated[
    str,
    Parameter(
        name="SECTION.KEY=VALUE",
        allow_leading_hyphen=True,
        help="Any key of the recipe, for example --sampling.branches 5 (`rlsf run --dry-run` prints all of them).",
    ),
]
#: What makes the shards; the same options wherever a command makes some.
Workers = Annotated[ExecutorOptions, Parameter(name="*")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeOptions:
    """What to run."""

    model: str | None = None
    """Model to start from: a folder or a hub id."""
    prompts: str | None = None
    """Questions to learn from (few recipes need their answers): a file, a hub id, a preset (gsm8k), or a
    preset over a file (gsm8k:FILE)."""
    eval_data: str | None = None
    """Labelled questions to measure on, given like --prompts."""
    recipe: str | None = None
    """The method: a name that `rlsf recipes` lists; by default that of --config, else rlsf."""
    config: Path | None = None
    """A recipe file of your own (YAML); it may name a shipped recipe to build on."""

    @property
    def nothing_said(self) -> bool:
        """Whether the command line names neither model nor questions nor recipe."""
        return not any((self.model, self.prompts, self.eval_data, self.recipe, self.config))

    def measuring(self, data: str | None, overrides: tuple[str, ...]) -> RecipeOptions:
        """These options for a command that learns nothing: ``--data`` is what it measures on.

        Raises ``InputError`` for prompts, which it would not read, and for two sets to measure on.
        """
        keys = [key for key, _ in flatten(parse_overrides(overrides))]
        for key in ["prompts", *keys] if self.prompts else keys:
            section, _, name = key.partition(".")
            if section == "prompts":
                instead = f"--evaluation_data.{name}" if name else "--data"
                raise InputError(f"--{key}: nothing is learned here, and no prompts are read: say {instead}")
        if data and self.eval_data and data != self.eval_data:
            raise InputError(f"--data {data} and --eval-data {self.eval_data} mean the same: say one of them")
        return replace(self, eval_data=data or self.eval_data)

    def resolve(self, overrides: tuple[str, ...]) -> Recipe:
        """The recipe under all layers: shipped, file, these options, dotted overrides.

        Raises ``InputError`` for overrides of a training that the recipe does not do.
        """
        said = parse_overrides(overrides)
        recipe = resolve(self.recipe, self.config, merge(self.layer(), said))
        require_used(recipe, said)
        return recipe

    def layer(self) -> dict[str, Any]:
        """These options as a layer of a recipe."""
        return source_layer(self.model, self.prompts, self.eval_data)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Where to run, and whether to go on or only to show."""

    output: Path | None = None
    """Run folder; by default runs/RECIPE-DATE-TIME."""
    resume: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Go on with the run in --output where it stopped; its recipe need not be said again."""
    dry_run: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Print the resolved recipe and stop."""

    def recipe(self, options: RecipeOptions, overrides: tuple[str, ...]) -> Recipe:
        """The recipe to run. A resumed run begins from its own, so that only what changes need be said.

        Raises ``InputError`` where there is nothing to resume.
        """
        from rlsf.pipeline.folder import RunFolder

        if not self.resume:
            return options.resolve(overrides)
        if self.output is None:
            raise InputError("--resume needs the run to go on with: --output FOLDER")
        kept = RunFolder(self.output).recipe_file
        if kept.is_file() and options.config is None:
            options = replace(options, config=kept)
        elif options.nothing_said:
            raise InputError(f"nothing to resume: {self.output} is not a run folder (no {kept.name})")
        return options.resolve(overrides)

    def folder(self, recipe: Recipe) -> Path:
        """The run folder: as given, or named after the recipe and the time."""
        return self.output or Path("runs") / f"{recipe.recipe}-{datetime.now():%Y%m%d-%H%M%S}"
