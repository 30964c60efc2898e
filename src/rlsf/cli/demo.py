"""``rlsf demo``: the main job on the bundled model, with the paper's recipe and, beside it, with ours."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from rlsf.cli.options import Overrides, RecipeOptions, RunOptions
from rlsf.cli.run import print_recipe, run_recipe
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.registry import recipe_card
from rlsf.recipes.resolve import merge, parse_overrides, resolve

#: Questions to learn from, and labelled questions to measure on.
SELF_TRAINING, TEST = 400, 500
#: The recipe of the demo, and the one shown beside it.
MAIN, BESIDE = "rlsf", "rlsf-trace"
_WHERE = RunOptions()


def demo(
    *overrides: Overrides,
    where: RunOptions = _WHERE,
    recipe: str | None = None,
    model: Path | None = None,
    beside: Annotated[bool, Parameter(negative="--alone")] = True,
) -> None:
    """Run a method end to end on the bundled model and its generated problems.

    Parameters
    ----------
    recipe:
        The method, alone; by default rlsf. `rlsf recipes` lists them.
    model:
        Folder of another model that `python -m rlsf.demo.train` has made, in the place of the bundled one.
    beside:
        Run rlsf-trace as well, on the same traces, where no method is named.
    """
    from rlsf.pipeline.folder import RunFolder
    from rlsf.pipeline.reuse import borrow_traces

    started, console = time.monotonic(), Console()
    begun = None if recipe or model else _begun(where, overrides)
    recipe = begun.recipe if begun else recipe
    named, name = recipe is not None, recipe or MAIN
    folder = where.folder(resolve(name))
    layer = merge(data_layer(folder.parent, resolve(name).needs_labels, model), parse_overrides(overrides))
    first = begun or _recipe(name, layer, model)
    if where.dry_run:
        print_recipe(first)
        return
    _announce(first, console)
    said = ("--recipe", name) if named and not begun else () if beside else ("--alone",)
    said = (*said, "--model", str(model)) if model else said
    go_on = ("rlsf", "demo", "--resume", "--output", folder, *said, *overrides)
    run_recipe(first, folder, resume=where.resume, go_on=go_on)
    if beside and not named:
        second, other = _recipe(BESIDE, layer, model), folder.with_name(f"{folder.name}-{BESIDE}")
        borrow_traces(RunFolder(folder), RunFolder(other))
        _announce(second, console)
        run_recipe(second, other, resume=where.resume or other.exists(), go_on=go_on)
    console.print(f"{time.monotonic() - started:.0f} s in all", highlight=False)


def data_layer(parent: Path, labelled: bool, model: Path | None = None) -> dict[str, Any]:
    """A model and the questions of its course as a layer of a recipe; gold answers where the recipe learns from them.

    By default the bundled model. The questions are written into a folder in ``parent``. Raises ``InputError`` for a
    ``model`` that has taken no course.
    """
    from rlsf.demo import MODEL_DIR, write_data
    from rlsf.demo.courses import SUMS_1M, course_of

    course = course_of(model or MODEL_DIR)
    folder = parent / ("demo-data" if course is SUMS_1M else f"demo-data-{course.name}")
    questions, test = write_data(folder, SELF_TRAINING, TEST, seed=0, labelled=labelled, level=course.level)
    return {
        "model": {"path": str(model or MODEL_DIR)},
        "prompts": {"path": str(questions)},
        "evaluation_data": {"path": str(test)},
    }


def _begun(where: RunOptions, overrides: tuple[str, ...]) -> Recipe | None:
    """The recipe of a run that is gone on with, where that is of another method than the one that is run unsaid."""
    from rlsf.pipeline.folder import RunFolder

    if not where.resume or where.output is None or not RunFolder(where.output).recipe_file.is_file():
        return None
    begun = where.recipe(RecipeOptions(), overrides)
    return begun if begun.recipe != MAIN else None


def _recipe(name: str, layer: dict[str, Any], model: Path | None) -> Recipe:
    from rlsf.demo.settings import demo_settings

    return resolve(name, None, merge(demo_settings(name, model), layer))


def _announce(recipe: Recipe, console: Console) -> None:
    console.print(f"\nrecipe {recipe.recipe}: {recipe_card(recipe.recipe).summary}", highlight=False, soft_wrap=True)
