"""How a recipe learns: the section that says so, and keys of others, which would change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlsf.errors import InputError
from rlsf.recipes.recipe import Recipe

#: What each section that holds a training teaches, or by what it learns.
ROUTES = {
    "online": "online",
    "introspection": "from dialogues with itself",
    "acceptance": "what to accept",
    "training": "from preference pairs",
}


def route_of(recipe: Recipe) -> str:
    """The section of ``ROUTES`` by which a recipe learns."""
    others = (section for section in ROUTES if section != "training")
    return next((section for section in others if getattr(recipe, section) is not None), "training")


def require_used(recipe: Recipe, said: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for keys of ``training`` where the recipe learns by another section, with that one's key."""
    own = route_of(recipe)
    if own == "training" and recipe.reward_model is not None:
        own = "reward_model"  # alone, with no policy after it
    if own == "training" or not said.get("training"):
        return
    key, section = next(iter(said["training"])), getattr(recipe, own)
    if key in type(section).model_fields:
        instead = f"say {own}.{key}"
    elif key in type(getattr(section, "training", section)).model_fields:
        instead = f"say {own}.training.{key}"
    else:
        instead = f"see the keys of {own} in `rlsf run --recipe {recipe.recipe} --dry-run`"
    taught = ROUTES.get(own, "a reward model")
    raise InputError(f"training.{key} has no effect: recipe {recipe.recipe} learns {taught}: {instead}")
