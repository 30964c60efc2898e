"""How preference pairs become a reward model."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.training.config import LoraSection


class RewardModelConfig(Section):
    """A Bradley-Terry reward model on the ranked pairs, the first step of RLSF's second route (arXiv 2507.21931)."""

    use_margin: bool = True
    """Ask for a difference of rewards of the pair's margin, which ``ranking.margin`` says how to compute. The paper's,
    exp(gap), is never below 1: the least gap in confidence then asks for a difference of one logit. ``ranking.margin:
    gap`` asks for the gap itself, False for any difference above 0."""
    centre_rewards: float = Field(default=0.0, ge=0)
    """Weight of (r_chosen + r_rejected)^2, which keeps rewards around 0 (arXiv 2312.09244); 0: no such term."""
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Peak learning rate, which falls to 0 along a line. ``auto``: by the number of weights, as for preferences."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the pairs."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides ``epochs``."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs per optimiser step."""
    device_batch_size: int | None = Field(default=None, ge=1)
    """Pairs per forward pass; gradients accumulate up to ``batch_size``. None: the whole batch."""
    save_every: int = Field(default=50, ge=1)
    """Optimiser steps between checkpoints."""
    held_out: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the prompts whose pairs are kept out of training, to measure the reward model on."""
    lora: LoraSection | None = None
    """Adapters, merged into the weights when the model is saved; the head trains in full. None trains all weights."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Options passed untouched to TRL's RewardConfig; they win over everything above."""

    def optimiser_steps(self, pairs: int) -> int:
        """Optimiser steps over so many pairs, the trainer options aside."""
        return self.max_steps or math.ceil(self.epochs * math.ceil(pairs / self.batch_size))

    @model_validator(mode="after")
    def _batches_divide(self) -> RewardModelConfig:
        if self.device_batch_size is not None and self.batch_size % self.device_batch_size:
            raise ValueError(
                f"reward_model.batch_size={self.batch_size} is not a multiple of"
                f" reward_model.device_batch_size={self.device_batch_size}: choose a divisor"
            )
        return self

    @model_validator(mode="after")
    def _known_trainer_options(self) -> RewardModelConfig:
        if self.trainer:
            # TRL takes seconds to import; a misspelt option would otherwise be met after hours of sampling.
            from rlsf.training.reward_model import check_options

            check_options(self)
        return self
