"""How a policy learns from examples that carry a reward."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.training.config import LoraSection, SelectionConfig


class WeightedSftConfig(Section):
    """Reward-weighted regression: supervised learning, each example weighed by exp(reward / tau) (arXiv 2407.18219)."""

    tau: float = Field(default=0.4, gt=0)
    """Temperature of the weights: the published value, for rewards of 1, 0 and -1. Smaller: the best examples alone."""
    normalise_weights: bool = False
    """Divide the weights by their mean over the data. Published runs do not: their weights are 12.2, 1 and 0.08."""
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Peak learning rate. ``auto``: by the number of weights, as for preferences, times ten for supervised steps."""
    lr_scheduler_type: Literal["constant_with_warmup", "linear", "cosine"] = "cosine"
    warmup_ratio: float = Field(default=0.04, ge=0, lt=1)
    """Part of the steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides ``epochs``."""
    batch_size: int = Field(default=16, ge=1)
    """Examples per optimiser step."""
    device_batch_size: int | None = Field(default=None, ge=1)
    """Examples per forward pass; gradients accumulate up to ``batch_size``. None: the whole batch."""
    save_every: int = Field(default=50, ge=1)
    """Optimiser steps between checkpoints."""
    lora: LoraSection | None = None
    """None trains all weights."""
    selection: SelectionConfig = SelectionConfig()
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Options passed untouched to TRL's SFTConfig; they win over everything above."""

    def optimiser_steps(self, examples: int) -> int:
        """Optimiser steps over so many examples, the trainer options aside."""
        return self.max_steps or math.ceil(self.epochs * math.ceil(examples / self.batch_size))

    @model_validator(mode="after")
    def _batches_divide(self) -> WeightedSftConfig:
        if self.device_batch_size is not None and self.batch_size % self.device_batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} is not a multiple of device_batch_size={self.device_batch_size}: choose"
                " a divisor"
            )
        return self

    @model_validator(mode="after")
    def _known_trainer_options(self) -> WeightedSftConfig:
        if self.trainer:
            # TRL takes seconds to import; a misspelt option would otherwise be met after hours of sampling.
            from rlsf.training.weighted_sft import check_options

            check_options(self)
        return self
