"""The policy before and after training: precision, special tokens, and the folder it is saved to."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from rlsf.files import atomic_folder
from rlsf.training.checkpoints import out_of_room

#: Fields of a model's configuration that transformers' trainer overwrites with the tokenizer's.
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


@contextlib.contextmanager
def special_tokens_kept(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Undo what trainers write into configurations and tokenizer: they give the model a pad id that it does not have,
    and the tokenizer's ids for the end and the beginning of a sequence."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    pad_token, generation = tokenizer.pad_token, copy.deepcopy(base.generation_config)
    configurations = [vars(config) for config in (base.config, base.config.get_text_config())]
    kept = [{name: copy.copy(values[name]) for name in _SPECIAL if name in values} for values in configurations]
    try:
        yield
    finally:
        tokenizer.pad_token = pad_token
        base.generation_config = generation
        for values, before in zip(configurations, kept, strict=True):
            for name in _SPECIAL:
                values.pop(name, None)
            values.update(before)


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Silence the bars that transformers draws for every file it writes."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def low_precision(model: PreTrainedModel) -> torch.dtype | None:
    """The model's dtype where it is narrower than float32."""
    return model.dtype if model.dtype in (torch.bfloat16, torch.float16) else None


def save_policy(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write the model (or its adapter) and tokenizer to ``folder``, whole or not at all.

    ``dtype`` converts full weights that were trained in float32 back to the precision they came in.
    """
    if dtype is not None and not isinstance(model, PeftModel):
        model = model.to(dtype)
    with out_of_room(folder), atomic_folder(folder) as partial:
        if isinstance(model, PeftModel):
            model.save_pretrained(str(partial), selected_adapters=["default"])
        else:
            model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
