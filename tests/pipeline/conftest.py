"""A run small enough for a test: the bundled model, a few questions, a few optimiser steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.recipes import Recipe, resolve
from rlsf.recipes.resolve import merge, parse_overrides

SMALL = {
    "sampling": {"branches": 6, "max_new_tokens": 64, "workers": 1, "shard_prompts": 8},
    "ranking": {"threshold": 0.0},
    "training": {
        "max_steps": 6,
        "batch_size": 4,
        "save_every": 2,
        "learning_rate": 1e-4,
        "selection": {"prompts": 4, "every": 3},
    },
    "evaluation": {"bootstrap": 100},
}


@pytest.fixture
def small_recipe(demo_data: tuple[Path, Path]) -> Callable[..., Recipe]:
    """A function from dotted overrides to a small recipe on the bundled model."""
    from rlsf.demo import MODEL_DIR

    questions, test = demo_data
    data = {
        "model": {"path": str(MODEL_DIR)},
        "prompts": {"path": str(questions)},
        "evaluation_data": {"path": str(test)},
    }

    def build(*overrides: str, name: str = "rlsf-trace") -> Recipe:
        return resolve(name, None, merge(merge(SMALL, data), parse_overrides(overrides)))

    return build


@pytest.fixture
def open_run() -> Callable[..., Run]:
    """A function that opens a run of a recipe in a folder."""

    def build(recipe: Recipe, folder: Path, *, resume: bool = False) -> Run:
        return Run(recipe, RunFolder(folder)).open(resume=resume)

    return build
