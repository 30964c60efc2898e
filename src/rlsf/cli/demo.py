"""``rlsf demo``: the main job on the bundled model."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from rlsf.cli.options import Overrides
from rlsf.cli.run import default_output, print_recipe, run_recipe
from rlsf.recipes.resolve import merge, parse_overrides, read_yaml, resolve

#: Questions to learn from, and labelled questions to measure on.
SELF_TRAINING, TEST = 400, 500


def demo(*overrides: Overrides, output: Path | None = None, resume: bool = False, dry_run: bool = False) -> None:
    """Run RLSF end to end on the bundled model and its generated problems.

    Parameters
    ----------
    output:
        Run folder; by default runs/RECIPE-DATE-TIME.
    resume:
        Go on with the run in --output where it stopped.
    dry_run:
        Print the resolved recipe and stop.
    """
    from rlsf.demo import MODEL_DIR, write_data

    shipped = read_yaml((resources.files("rlsf.demo") / "demo.yaml").read_text(encoding="utf-8"), "demo.yaml")
    folder = output or default_output(resolve(shipped["recipe"]))
    data = folder.parent / "demo-data"
    questions, test = write_data(data, SELF_TRAINING, TEST, seed=0)
    bundled = {
        "model": {"path": str(MODEL_DIR)},
        "prompts": {"path": str(questions)},
        "evaluation_data": {"path": str(test)},
    }
    recipe = resolve(None, None, merge(merge(shipped, bundled), parse_overrides(overrides)))
    if dry_run:
        print_recipe(recipe)
        return
    run_recipe(recipe, folder, resume=resume)
