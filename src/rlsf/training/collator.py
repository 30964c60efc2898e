"""Batches of preference pairs, with the per-pair numbers that TRL's collator drops and a prompt for each side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.reward_trainer import DataCollatorForPreference as DataCollatorForRewards

from rlsf.training.pairs import REJECTED_PROMPT, sequences

#: Columns of a pair beyond TRL's own that reach the loss.
PAIR_NUMBERS = ("margin", "weight")


@dataclass
class PairCollator(DataCollatorForPreference):
    """TRL's padded [chosen; rejected] batch plus ``margin`` and ``weight``, shape (pairs,), where present.

    Rejected traces follow ``rejected_prompt_ids`` where these are present. ``joint`` counts the prompt among the scored
    tokens, all but its first, which nothing predicts.
    """

    joint: bool = False

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        sided = REJECTED_PROMPT in examples[0]
        batch = super().torch_call([_whole(example) for example in examples] if sided else examples)
        if sided:
            prompts = [len(example[name]) for name in ("prompt_ids", REJECTED_PROMPT) for example in examples]
            mask = batch["completion_mask"]
            mask *= torch.arange(mask.shape[1]) >= torch.tensor(prompts)[:, None]
        if self.joint:
            batch["completion_mask"] = batch["attention_mask"].clone()
        for name in PAIR_NUMBERS:
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples], dtype=torch.float32)
        return batch


def _whole(example: dict[str, Any]) -> dict[str, Any]:
    """Prompt and trace in one, with no prompt in common."""
    chosen, rejected = sequences(example)
    return {**example, "prompt_ids": [], "chosen_ids": chosen, "rejected_ids": rejected}


@dataclass
class RewardCollator(DataCollatorForRewards):
    """TRL's padded [chosen; rejected] batch of whole sequences plus ``weight``, shape (pairs,), where present."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        if "weight" in examples[0]:
            batch["weight"] = torch.tensor([example["weight"] for example in examples], dtype=torch.float32)
        return batch
