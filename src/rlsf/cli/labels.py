"""Whether a recipe learns from gold answers is said before anything else."""

from __future__ import annotations

from rich.console import Console

from rlsf.recipes.recipe import Recipe


def say_labels(recipe: Recipe) -> None:
    """One line for a recipe that learns from gold answers; nothing for the others."""
    if recipe.needs_labels:
        Console().print(
            f"recipe {recipe.recipe} learns from gold answers: it is a supervised method, not self-feedback",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
