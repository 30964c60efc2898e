"""The log-probabilities of a reference policy that is not the one that is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlsf.errors import InputError
from rlsf.training.config import TrainingConfig
from rlsf.training.options import trainer_arguments
from rlsf.training.preference_trainer import REFERENCE
from rlsf.training.train import build_trainer, usable_pairs


def keep_reference(
    load: Callable[[], PreTrainedModel],
    *,
    tokenizer: PreTrainedTokenizerBase,
    preferences: pa.Table,
    config: TrainingConfig,
    folder: Path,
    seed: int,
) -> None:
    """Write what the policy that ``load`` gives thinks of ``preferences`` to ``folder``, where training looks for it.

    ``train_preferences`` with the same pairs, options, seed and folder then measures log-ratios against that policy,
    whatever model it trains. The reference is let go of before it returns, so that no two models are in memory; where
    it is written already, it is not even loaded. Raises ``InputError`` as ``train_preferences`` does, and for options
    of the trainer under which TRL computes references itself.
    """
    path = folder / REFERENCE
    if path.exists():
        return
    model: Any = load()
    arguments = trainer_arguments(config, model, folder, seed)
    pairs = usable_pairs(preferences, config, arguments, model)
    # It computes them when it is made, and trains nothing.
    build_trainer(model, tokenizer, pairs, config, arguments)
    if not path.exists():
        raise InputError(
            "training.reference=start: with these options of training.trainer the reference is computed while the"
            " policy trains; remove them, or set training.reference=round"
        )
