"""How a frozen policy's records become an acceptance model."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.training.config import LoraSection


class AcceptanceTrainingConfig(Section):
    """Binary cross-entropy on attempts that are right or wrong, both kinds weighing the same (arXiv 2501.01457)."""

    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Peak learning rate, which falls to 0 along a line. ``auto``: by the number of weights, as for preferences."""
    epochs: float = Field(default=2.0, gt=0)
    """Passes over the attempts."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides ``epochs``."""
    batch_size: int = Field(default=16, ge=1)
    """Attempts per optimiser step."""
    device_batch_size: int | None = Field(default=None, ge=1)
    """Attempts per forward pass; gradients accumulate up to ``batch_size``. None: the whole batch."""
    save_every: int = Field(default=50, ge=1)
    """Optimiser steps between checkpoints."""
    lora: LoraSection | None = None
    """Adapters, merged into the weights when the model is saved; the head trains in full. None trains all weights."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Options passed untouched to transformers' TrainingArguments; they win over everything above."""

    def optimiser_steps(self, attempts: int) -> int:
        """Optimiser steps over so many attempts, the trainer options aside."""
        return self.max_steps or math.ceil(self.epochs * math.ceil(attempts / self.batch_size))

    @model_validator(mode="after")
    def _batches_divide(self) -> AcceptanceTrainingConfig:
        if self.device_batch_size is not None and self.batch_size % self.device_batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} is not a multiple of device_batch_size={self.device_batch_size}: choose"
                " a divisor"
            )
        return self

    @model_validator(mode="after")
    def _known_trainer_options(self) -> AcceptanceTrainingConfig:
        if self.trainer:
            # transformers takes seconds to import; a misspelt option would otherwise be met after hours of sampling.
            from rlsf.training.acceptance import check_options

            check_options(self)
        return self
