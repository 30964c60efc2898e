"""How a policy learns from examples that carry a reward."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlsf.errors import InputError
from rlsf.training.config import LoraSection, SelectionConfig
from rlsf.training.passes_config import PassesSection
from rlsf.training.reward_weights import reward_weights


class WeightedSftConfig(PassesSection):
    """Reward-weighted regression: supervised learning, each example weighed by exp(reward / tau) (arXiv 2407.18219)."""

    place = "introspection.training"
    trainer_module = "rlsf.training.weighted_sft"

    tau: float = Field(default=0.4, gt=0)
    """Temperature of the weights: the published value, for rewards of 1, 0 and -1. Smaller: the best examples alone."""
    normalise_weights: bool = False
    """Divide the weights by their mean over the data. Published runs do not: their weights are 12.2, 1 and 0.08."""
    lr_scheduler_type: Literal["constant_with_warmup", "linear", "cosine"] = "cosine"
    warmup_ratio: float = Field(default=0.04, ge=0, lt=1)
    """Part of the steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora: LoraSection | None = None
    """None trains all weights."""
    selection: SelectionConfig = SelectionConfig()

    @model_validator(mode="after")
    def _weights_can_be_had(self) -> WeightedSftConfig:
        # No reward of a dialogue is above 1; after hours of sampling is no time to learn that its weight is too large.
        if not self.normalise_weights:
            try:
                reward_weights([1.0], self.tau)
            except InputError as error:
                raise ValueError(f"{self.place}.tau: {error}") from error
        return self
