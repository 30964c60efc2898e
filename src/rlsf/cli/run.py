"""``rlsf run``: the whole loop."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax

from rlsf.cli.options import Overrides, RecipeOptions
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import to_yaml

_DEFAULT_OPTIONS = RecipeOptions()


def run(
    *overrides: Overrides,
    options: RecipeOptions = _DEFAULT_OPTIONS,
    output: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
) -> None:
    """Measure, sample, rank, train, measure again, and report: prompts to a better calibrated model.

    Parameters
    ----------
    output:
        Run folder; by default runs/RECIPE-DATE-TIME.
    resume:
        Go on with the run in --output where it stopped.
    dry_run:
        Print the resolved recipe and stop.
    """
    recipe = options.resolve(overrides)
    if dry_run:
        print_recipe(recipe)
        return
    run_recipe(recipe, output or default_output(recipe), resume=resume)


def run_recipe(recipe: Recipe, output: Path, *, resume: bool) -> None:
    """Run every stage in ``output``, then print the table and where the report is."""
    from rlsf.pipeline.context import Run
    from rlsf.pipeline.folder import RunFolder
    from rlsf.pipeline.run import run_all

    console = Console()
    with Run(recipe, RunFolder(output)).open(resume=resume) as opened:
        summary = run_all(opened)
        show_summary(summary, console)
        console.print(f"policy  {opened.folder.policy}", highlight=False, soft_wrap=True)
        console.print(f"report  {opened.folder.report_file}", highlight=False, soft_wrap=True)


def show_summary(summary: dict | None, console: Console) -> None:
    """Print the before/after table, or say why there is none."""
    if summary is None:
        console.print("no --eval-data: nothing was measured", highlight=False)
        return
    from rlsf.report import TABLE_WIDTH, summary_table

    console.print(summary_table(summary), width=max(TABLE_WIDTH, console.width) if not console.is_terminal else None)


def print_recipe(recipe: Recipe) -> None:
    """The resolved recipe, coloured on a terminal, plain YAML in a pipe."""
    console, text = Console(), to_yaml(recipe)
    if console.is_terminal:
        console.print(Syntax(text, "yaml", background_color="default"))
    else:
        print(text, end="")


def default_output(recipe: Recipe) -> Path:
    """A run folder named after the recipe and the time."""
    return Path("runs") / f"{recipe.recipe}-{datetime.now():%Y%m%d-%H%M%S}"
