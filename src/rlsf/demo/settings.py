"""What the demo sets on top of a shipped recipe: sizes that suit the models it trains, and two cores."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from rlsf.demo.courses import SUMS_1M, course_of
from rlsf.recipes.resolve import merge, read_yaml, resolve


def demo_settings(recipe: str, model: Path | None = None) -> dict[str, Any]:
    """The settings for a model of the course that it has taken, by default the bundled one, as a layer of a recipe.

    Raises ``InputError`` for an unknown recipe, and for a model that has taken no course.
    """
    course = SUMS_1M if model is None else course_of(model)
    layers = _layers("demo.yaml")
    if course is not SUMS_1M:
        layers = merge(layers, _layers(f"{course.name}.yaml"))
    shipped = resolve(recipe)
    kinds = ("online", "introspection", "acceptance")
    kind = next((kind for kind in kinds if getattr(shipped, kind) is not None), "preferences")
    return merge(merge(layers["all"], layers[kind]), layers["recipes"].get(recipe) or {})


def _layers(name: str) -> dict[str, Any]:
    return read_yaml((resources.files("rlsf.demo") / name).read_text(encoding="utf-8"), name)
