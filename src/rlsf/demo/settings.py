"""What the demo sets on top of a shipped recipe: sizes that suit the bundled model and two cores."""

from __future__ import annotations

from importlib import resources
from typing import Any

from rlsf.recipes.resolve import merge, read_yaml, resolve


def demo_settings(recipe: str) -> dict[str, Any]:
    """The settings for the bundled model as a layer of a recipe; raises ``InputError`` for an unknown recipe."""
    layers = read_yaml((resources.files("rlsf.demo") / "demo.yaml").read_text(encoding="utf-8"), "demo.yaml")
    shipped = resolve(recipe)
    kinds = ("online", "introspection", "acceptance")
    kind = next((kind for kind in kinds if getattr(shipped, kind) is not None), "preferences")
    return merge(merge(layers["all"], layers[kind]), layers["recipes"].get(recipe) or {})
