"""``rlsf run``: the whole loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax

from rlsf.cli.interrupt import resumed_by
from rlsf.cli.labels import say_labels
from rlsf.cli.launching import LaunchOptions
from rlsf.cli.options import Overrides, RecipeOptions, RunOptions, Workers
from rlsf.cli.width import wide_enough
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import to_yaml
from rlsf.sampling.executor import ExecutorOptions

_RECIPE, _WHERE, _WORKERS, _LAUNCHING = RecipeOptions(), RunOptions(), ExecutorOptions(), LaunchOptions()


def run(
    *overrides: Overrides,
    options: RecipeOptions = _RECIPE,
    where: RunOptions = _WHERE,
    workers: Workers = _WORKERS,
    launching: LaunchOptions = _LAUNCHING,
) -> None:
    """Measure, sample, rank, train, measure again, and report: prompts to a better calibrated model."""
    recipe = where.recipe(options, overrides)
    if where.dry_run:
        print_recipe(recipe)
    else:
        folder = where.folder(recipe)
        run_recipe(recipe, folder, resume=where.resume, workers=workers, launching=launching)


def run_recipe(
    recipe: Recipe,
    output: Path,
    *,
    resume: bool,
    go_on: Sequence[object] = (),
    workers: ExecutorOptions = _WORKERS,
    launching: LaunchOptions = _LAUNCHING,
) -> None:
    """Run every stage in ``output``, then print the table and where the report is.

    ``go_on``: the command that an interrupted user is told, where it is not ``rlsf run``.
    """
    from rlsf.pipeline.context import Run
    from rlsf.pipeline.folder import RunFolder
    from rlsf.pipeline.preflight import preflight
    from rlsf.pipeline.run import run_all

    console = Console()
    say_labels(recipe)
    run = Run(recipe, RunFolder(output), executor=workers)
    run.launcher = launching.launcher(recipe)
    preflight(run, trains=True)
    go_on = go_on or ("rlsf", "run", "--resume", "--output", output, *workers.arguments(), *launching.arguments())
    with resumed_by(*go_on), run.open(resume=resume) as opened:
        summary = run_all(opened)
        show_summary(summary, console)
        if opened.folder.policy.exists():
            console.print(f"policy  {opened.folder.policy}", highlight=False, soft_wrap=True)
        elif recipe.acceptance is not None:
            console.print(f"acceptance  {opened.folder.acceptance}", highlight=False, soft_wrap=True)
        else:  # a reward model may be all that was trained
            console.print(f"reward model  {opened.folder.reward_model}", highlight=False, soft_wrap=True)
        console.print(f"report  {opened.folder.report_file}", highlight=False, soft_wrap=True)


def show_summary(summary: dict | None, console: Console) -> None:
    """Print the before/after table, or say why there is none."""
    if summary is None:
        console.print("no --eval-data: nothing was measured", highlight=False)
        return
    from rlsf.report import TABLE_WIDTH, calibration_note, summary_table

    wide = wide_enough(console, TABLE_WIDTH)
    wide.print(summary_table(summary))
    wide.print(calibration_note(summary), highlight=False, soft_wrap=True)


def print_recipe(recipe: Recipe) -> None:
    """The resolved recipe, coloured on a terminal, plain YAML in a pipe."""
    console, text = Console(), to_yaml(recipe)
    if console.is_terminal:
        console.print(Syntax(text, "yaml", background_color="default"))
    else:
        print(text, end="")
