"""Mistakes that can be seen at once are met before the run folder is taken and before any long work."""

from __future__ import annotations

from rlsf.confidence import get_signal
from rlsf.errors import InputError
from rlsf.models import configured_context_length, load_model_config, resolve_device
from rlsf.pipeline.context import Run
from rlsf.prompts import render


def preflight(run: Run, *, learns: bool = True) -> None:
    """Read all questions, render them all, and look at everything else but the weights.

    ``learns``: whether the run has prompts to learn from. Raises ``InputError`` for what cannot be used.
    """
    recipe = run.recipe
    get_signal(recipe.signal)
    resolve_device(recipe.model.device)
    asked = [*(run.prompts if learns else ()), *run.questions]
    context = configured_context_length(load_model_config(recipe.model))
    lengths = {prompt.id: len(render(prompt, run.tokenizer, recipe.render).token_ids) for prompt in asked}
    too_long = [name for name, length in lengths.items() if context is not None and length >= context]
    if too_long:
        raise InputError(
            f"prompt {too_long[0]!r} has {lengths[too_long[0]]} tokens and the model's context {context}, which leaves"
            f" no room for an answer ({len(too_long)} of {len(asked)} prompts are too long): shorten or remove them, or"
            " choose a model with a longer context"
        )
