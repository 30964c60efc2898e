"""How questions are asked of a model: what of a recipe decides its confidences besides model, signal and mode."""

from __future__ import annotations

from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import Layer

#: Sections as a whole, and of how traces are sampled what counts where CoT-decoding branches go on greedily.
SECTIONS = ("render", "answer")
OF_SAMPLING = ("max_new_tokens", "stop")


def manner_of(recipe: Recipe) -> Layer:
    """The prompt's rendering, the answer's format and the bounds of a trace, as a layer of a recipe."""
    content = recipe.model_dump(mode="json")
    sampling = {name: content["sampling"][name] for name in OF_SAMPLING}
    return {**{name: content[name] for name in SECTIONS}, "sampling": sampling}
