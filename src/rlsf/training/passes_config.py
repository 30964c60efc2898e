"""Passes over examples: what every training that is not online says of its length and its batches."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from rlsf.config import Section


class PassesSection(Section):
    """How long and in which batches a training goes over its examples."""

    place: ClassVar[str]
    """The dotted key of the section in a recipe, for messages."""
    trainer_module: ClassVar[str]
    """Where ``check_options`` looks at ``trainer``."""

    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Peak learning rate. ``auto``: by the number of weights, 1e-6 from a billion on and more below, and ten times as
    much for adapters and for supervised steps (``rlsf.training.learning_rate``)."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the examples."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides ``epochs``."""
    batch_size: int = Field(default=16, ge=1)
    """Examples per optimiser step; of preferences, pairs."""
    device_batch_size: int | None = Field(default=None, ge=1)
    """Examples per forward pass; gradients accumulate up to ``batch_size``. None: the whole batch."""
    save_every: int = Field(default=50, ge=1)
    """Optimiser steps between checkpoints."""
    keep_checkpoints: Annotated[int, Field(ge=1)] | Literal["all"] = 2
    """How many of the last checkpoints stay; that of the step to keep stays besides. ``all``: every one."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Options passed untouched to the configuration of the trainer underneath; they win over every other key."""

    def optimiser_steps(self, examples: int) -> int:
        """Optimiser steps over so many examples, the trainer options aside."""
        return self.max_steps or math.ceil(self.epochs * math.ceil(examples / self.batch_size))

    def rows_read(self, examples: int) -> float:
        """How many examples all optimiser steps over so many read, each time anew."""
        per_pass = math.ceil(examples / self.batch_size)
        return self.optimiser_steps(examples) * examples / per_pass if examples else 0.0

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        if self.device_batch_size is not None and self.batch_size % self.device_batch_size:
            raise ValueError(
                f"{self.place}.batch_size={self.batch_size} is not a multiple of"
                f" {self.place}.device_batch_size={self.device_batch_size}: choose a divisor"
            )
        return self

    @model_validator(mode="after")
    def _known_trainer_options(self) -> Self:
        if self.trainer:
            # TRL takes seconds to import; a misspelt option would otherwise be met after hours of sampling.
            import_module(self.trainer_module).check_options(self)
        return self
