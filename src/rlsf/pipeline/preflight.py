"""Mistakes that can be seen at once are met before the run folder is taken and before any long work."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rlsf.confidence import get_signal
from rlsf.errors import InputError
from rlsf.judging.words import Verdicts
from rlsf.models import configured_context_length, load_model_config, resolve_device
from rlsf.models.vllm_config import require_vllm
from rlsf.pipeline.context import Run
from rlsf.pipeline.least_budget import require_a_beginning
from rlsf.pipeline.probe import held_out_count
from rlsf.pipeline.rescored import signals_of
from rlsf.pipeline.served import require_servable
from rlsf.prompts import Prompt, render
from rlsf.recipes.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def preflight(run: Run, *, learns: bool = True, trains: bool = False) -> None:
    """Look at everything but the weights. ``learns``: whether the run has prompts to learn from; ``trains``: whether
    this command trains on them, too.
    """
    require_servable(run.recipe, trains=trains)
    run.executor.load_ahead(run.recipe.model, run.recipe.sampling.workers)
    require_usable(run.recipe, itertools.chain(run.prompts if learns else (), run.questions), run.tokenizer)
    if learns:
        require_a_batch(run.recipe, len(run.prompts))
        require_a_beginning(run.recipe, len(run.prompts))
    if learns and run.learned_questions:
        run.progress.warn(
            f"{run.learned_questions} of {len(run.questions)} evaluation questions are among the prompts to learn from:"
            " what is measured after training will not speak of new questions"
        )


def require_a_batch(recipe: Recipe, prompts: int) -> None:
    """Raise ``InputError`` where online training has no reward, or fewer prompts than one batch of rollouts."""
    online = recipe.online
    if online is None:
        return
    online.rewards.require_one()
    held_out = held_out_count(recipe.selection, prompts)
    needed = online.prompts_per_step * online.steps_per_rollout
    if prompts - held_out < needed:
        raise InputError(
            f"{prompts} prompts to learn from, {held_out} of them held out for the guard, are too few: a batch of"
            f" rollouts takes {needed} (online.prompts_per_step x online.steps_per_rollout); give more prompts, or"
            " lower online.prompts_per_step"
        )


def require_usable(recipe: Recipe, prompts: Iterable[Prompt], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ``InputError`` for a recipe or a model that cannot be used, and for prompts that leave no room."""
    for signal in signals_of(recipe):
        get_signal(signal)
    resolve_device(recipe.model.device)
    if recipe.judge is not None:
        Verdicts.of(tokenizer, recipe.judge.true_word, recipe.judge.false_word)
    if recipe.model.engine == "vllm":
        require_vllm()
    context = configured_context_length(load_model_config(recipe.model))
    first, count, too_long = "", 0, 0
    for prompt in prompts:
        count += 1
        length = len(render(prompt, tokenizer, recipe.render).token_ids)
        if context is not None and length >= context:
            first = first or f"prompt {prompt.id!r} has {length} tokens"
            too_long += 1
    if too_long:
        raise InputError(
            f"{first} and the model's context {context}, which leaves no room for an answer ({too_long} of {count}"
            " prompts are too long): shorten or remove them, or choose a model with a longer context"
        )
