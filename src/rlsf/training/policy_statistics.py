"""TRL's online trainers with the policy's own distributions handed to reward functions.

Nothing of the policy reaches a reward function of TRL. The mixin scores each batch of completions once with the policy
as it is, without logits in memory (``rlsf.scoring``), and adds the statistics as a column of the batch; TRL hands
columns to every reward function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

from rlsf.rewards.policy_reward import COLUMNS, PolicyReward, Temperature
from rlsf.scoring import Scorer
from rlsf.tokenstats import TokenStatistics
from rlsf.training.cut_models import require_whole_models
from rlsf.training.prefix_sharing import SharedPrompts

if TYPE_CHECKING:
    _OnlineTrainer = Any  # whichever it is mixed into
else:
    _OnlineTrainer = object


class PolicyStatistics(_OnlineTrainer):
    """Mix into ``GRPOTrainer`` or ``RLOOTrainer``, to the left of it.

    For each temperature that some ``PolicyReward`` asks for, one pass over the completions, however many rewards ask;
    none if no reward does. Token t is measured by the distribution that produced it, with the weights that the rewards
    are computed for, in evaluation mode. LoRA and full training. Raises ``InputError`` for models that may be cut over
    processes (FSDP, DeepSpeed).
    """

    _scorer: Scorer | None = None

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        generated = super()._generate(*args, **kwargs)
        self._prompt_ids_of_batch: list[list[int]] = generated[0]
        return generated

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        for temperature in self._temperatures():
            measured = self._measure(completion_ids_list, temperature)
            column = COLUMNS[temperature]
            inputs = [{**row, column: tokens} for row, tokens in zip(inputs, measured, strict=True)]
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)

    def _temperatures(self) -> list[Temperature]:
        asked = {reward.temperature for reward in self.reward_funcs if isinstance(reward, PolicyReward)}
        return [temperature for temperature in COLUMNS if temperature in asked]

    def _measure(self, completion_ids: list[list[int]], temperature: Temperature) -> list[TokenStatistics]:
        """Statistics of every completion's tokens."""
        if self._scorer is None:
            require_whole_models(self, "rewards of the policy's distributions")
            with self.accelerator.autocast():  # the model is tried as it will be read
                self._scorer = Scorer(self.accelerator.unwrap_model(self.model))
        rows = [prompt + ids for prompt, ids in zip(self._prompt_ids_of_batch, completion_ids, strict=True)]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        mask, keep = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for number, (row, prompt) in enumerate(zip(rows, self._prompt_ids_of_batch, strict=True)):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
            keep[number, len(prompt) : len(row)] = True
        with self.accelerator.autocast():
            columns = self._scorer.statistics(
                ids, mask, keep, temperature=1.0 if temperature == "raw" else self.temperature
            )
            together, start = columns.to_token_statistics(self._scorer.vocabulary_size), 0
        measured = []
        for of_row in completion_ids:
            measured.append(together[start : start + len(of_row)])
            start += len(of_row)
        return measured


class SelfFeedbackGRPOTrainer(PolicyStatistics, SharedPrompts, GRPOTrainer):
    """TRL's GRPO trainer, whose reward functions may be ``PolicyReward``."""


class SelfFeedbackRLOOTrainer(PolicyStatistics, SharedPrompts, RLOOTrainer):
    """TRL's RLOO trainer, whose reward functions may be ``PolicyReward``."""
