"""A run folder that a stage goes on with: which keys of its recipe may still change, and which stages it has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlsf.cli.routes import ROUTES, route_of
from rlsf.errors import InputError
from rlsf.files import write_text
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import flatten, resolve, to_yaml
from rlsf.sampling.executor import ExecutorOptions

if TYPE_CHECKING:
    from rlsf.pipeline.context import Run


@contextlib.contextmanager
def reopen(
    folder: Path,
    layer: dict[str, Any],
    changeable: tuple[str, ...],
    workers: ExecutorOptions | None = None,
) -> Iterator[Run]:
    """The run in ``folder`` under its own recipe, with overrides of the sections that may still change.

    Overrides that turn out to be unusable leave the recipe as it was.
    """
    from rlsf.pipeline.context import Run
    from rlsf.pipeline.folder import RunFolder

    opened = RunFolder(folder)
    if not opened.recipe_file.exists():
        raise InputError(f"{folder} is not a run folder (no recipe.yaml): start one with `rlsf run` or `rlsf sample`")
    for key, _ in flatten(layer):
        if key.partition(".")[0] not in changeable:
            raise InputError(
                f"{key} cannot change any more in {folder}: earlier stages were made from it; start another run"
            )
    recipe: Recipe = resolve(None, opened.recipe_file, layer)
    require_same_route(resolve(None, opened.recipe_file, {}), layer, folder)
    kept = opened.recipe_file.read_text(encoding="utf-8")
    if layer:
        write_text(opened.recipe_file, to_yaml(recipe))
    try:
        with Run(recipe, opened, executor=workers).open(resume=True) as run:
            yield run
    except InputError:
        if layer:
            write_text(opened.recipe_file, kept)
        raise


def require_stages(recipe: Recipe, folder: Path | None = None) -> None:
    """Raise ``InputError`` for a recipe whose sampling, ranking and training are no stages of their own."""
    if recipe.online is not None and recipe.reward_model is None:
        raise InputError(
            f"recipe {recipe.recipe} learns online: it samples while it trains, and ranks nothing: use `rlsf run`, or"
            f" `rlsf train {folder or 'FOLDER'}` to go on with a run"
        )
    if recipe.introspection is not None:
        raise InputError(
            f"recipe {recipe.recipe} learns from dialogues, which it samples turn by turn, and ranks nothing: use `rlsf"
            f" run`, or `rlsf train {folder or 'FOLDER'}` to go on with a run"
        )
    if recipe.acceptance is not None:
        raise InputError(
            f"recipe {recipe.recipe} learns from attempts, which it samples round by round, and ranks nothing: use"
            f" `rlsf run`, or `rlsf train {folder or 'FOLDER'}` to go on with a run"
        )


def require_same_route(kept: Recipe, layer: dict[str, Any], folder: Path) -> None:
    """Raise ``InputError`` for keys of a training that the run does not do, and for doing away with the one it does."""
    own = route_of(kept)
    wrong = [section for section in ROUTES if section in layer and section != own]
    if wrong or layer.get(own, ...) is None:
        raise InputError(
            f"the run in {folder} learns {ROUTES[own]}, which keys of {(wrong or [own])[0]} cannot change:"
            " start another run"
        )


def split_folder(arguments: tuple[str, ...]) -> tuple[Path | None, tuple[str, ...]]:
    """A leading argument that is no option is the run folder."""
    if arguments and not arguments[0].startswith("--") and "=" not in arguments[0]:
        return Path(arguments[0]), arguments[1:]
    return None, arguments
