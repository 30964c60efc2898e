"""A run small enough for a test: the bundled model, a few questions, a few optimiser steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_settings import SMALL, SMALL_ONLINE, on_bundled_model

from rlsf.demo.settings import demo_settings
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.recipes import Recipe, resolve
from rlsf.recipes.resolve import merge, parse_overrides


@pytest.fixture
def small_recipe(demo_data: tuple[Path, Path]) -> Callable[..., Recipe]:
    """A function from dotted overrides to a small recipe on the bundled model."""
    data = on_bundled_model(*demo_data)

    def build(*overrides: str, name: str = "rlsf-trace") -> Recipe:
        return resolve(name, None, merge(merge(SMALL, data), parse_overrides(overrides)))

    return build


@pytest.fixture(scope="session")
def labelled_data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The questions of ``demo_data`` with gold answers, for methods that learn from these."""
    from rlsf.demo import write_data

    return write_data(tmp_path_factory.mktemp("labelled-data"), self_training=24, test=16, seed=5, labelled=True)


@pytest.fixture(scope="session")
def small_online(labelled_data: tuple[Path, Path]) -> Callable[..., Recipe]:
    """A function from dotted overrides to a small recipe that learns online, as the demo sets it up."""
    data = on_bundled_model(*labelled_data)

    def build(*overrides: str, name: str = "rlif-self-certainty") -> Recipe:
        settings = merge(merge(demo_settings(name), SMALL_ONLINE), data)
        return resolve(name, None, merge(settings, parse_overrides(overrides)))

    return build


@pytest.fixture(scope="session")
def open_run() -> Callable[..., Run]:
    """A function that opens a run of a recipe in a folder."""

    def build(recipe: Recipe, folder: Path, *, resume: bool = False) -> Run:
        return Run(recipe, RunFolder(folder)).open(resume=resume)

    return build
