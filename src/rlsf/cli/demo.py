"""``rlsf demo``: the main job on the bundled model, with the paper's recipe and, beside it, with ours."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from rlsf.cli.options import Overrides, RunOptions
from rlsf.cli.run import print_recipe, run_recipe
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.registry import recipe_card
from rlsf.recipes.resolve import merge, parse_overrides, read_yaml, resolve

#: Questions to learn from, and labelled questions to measure on.
SELF_TRAINING, TEST = 400, 500
#: The recipe of the demo, and the one shown beside it.
MAIN, BESIDE = "rlsf", "rlsf-trace"
_WHERE = RunOptions()


def demo(
    *overrides: Overrides, where: RunOptions = _WHERE, beside: Annotated[bool, Parameter(negative="--alone")] = True
) -> None:
    """Run RLSF end to end on the bundled model and its generated problems.

    Parameters
    ----------
    beside:
        Run rlsf-trace as well, on the same traces.
    """
    from rlsf.pipeline.folder import RunFolder
    from rlsf.pipeline.reuse import borrow_traces

    started, console = time.monotonic(), Console()
    folder = where.folder(resolve(MAIN))
    layer = merge(_data(folder.parent / "demo-data"), parse_overrides(overrides))
    recipe = _recipe(MAIN, layer)
    if where.dry_run:
        print_recipe(recipe)
        return
    _announce(recipe, console)
    go_on = ("rlsf", "demo", "--resume", "--output", folder, *(() if beside else ("--alone",)), *overrides)
    run_recipe(recipe, folder, resume=where.resume, go_on=go_on)
    if beside:
        second, other = _recipe(BESIDE, layer), folder.with_name(f"{folder.name}-{BESIDE}")
        borrow_traces(RunFolder(folder), RunFolder(other))
        _announce(second, console)
        run_recipe(second, other, resume=where.resume or other.exists(), go_on=go_on)
    console.print(f"{time.monotonic() - started:.0f} s in all", highlight=False)


def _data(folder: Path) -> dict[str, Any]:
    """The bundled model and its questions, as a layer of a recipe."""
    from rlsf.demo import MODEL_DIR, write_data

    questions, test = write_data(folder, SELF_TRAINING, TEST, seed=0)
    return {
        "model": {"path": str(MODEL_DIR)},
        "prompts": {"path": str(questions)},
        "evaluation_data": {"path": str(test)},
    }


def _recipe(name: str, layer: dict[str, Any]) -> Recipe:
    shipped = read_yaml((resources.files("rlsf.demo") / "demo.yaml").read_text(encoding="utf-8"), "demo.yaml")
    return resolve(name, None, merge(shipped, layer))


def _announce(recipe: Recipe, console: Console) -> None:
    console.print(f"\nrecipe {recipe.recipe}: {recipe_card(recipe.recipe).summary}", highlight=False, soft_wrap=True)
