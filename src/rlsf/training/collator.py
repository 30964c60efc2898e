"""Batches of preference pairs, with the per-pair numbers that TRL's collator drops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference

#: Columns of a pair beyond TRL's own that reach the loss.
PAIR_NUMBERS = ("margin", "weight")


@dataclass
class PairCollator(DataCollatorForPreference):
    """TRL's padded [chosen; rejected] batch plus ``margin`` and ``weight``, shape (pairs,), where present."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        for name in PAIR_NUMBERS:
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples], dtype=torch.float32)
        return batch
