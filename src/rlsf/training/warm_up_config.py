"""How a policy is taught a form before rewards are learned from."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from rlsf.config import Section


class WarmUpConfig(Section):
    """Supervised training on the policy's own completions, rewritten into the form that the rewards look for.

    It teaches the form and nothing else: the reasoning and the answer are those that were sampled, right or wrong, and
    the numbers that the form asks for are drawn at random. arXiv 2507.16806 starts from a model trained on written
    examples where the base model does not keep to the form ("SFT + RLCR").
    """

    steps: int = Field(default=0, ge=0)
    """Optimiser steps; 0 is no warm-up. The bundled model, which spells tags from pieces that it never wrote, needs 500
    with 4 completions each (docs/rewards.md)."""
    batch_size: int = Field(default=16, ge=1)
    """Completions per optimiser step."""
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Peak learning rate, which falls to 0 along a line. ``auto``: ten times what preferences are learned with, which
    is 1e-5 from a billion weights on and more below (``rlsf.training.learning_rate``)."""
    completions: int = Field(default=4, ge=1)
    """Completions that are sampled for each prompt."""
    temperature: float = Field(default=1.0, gt=0)
    """Of that sampling. At 1 the policy learns to say in the form what it would have said anyway."""

    @property
    def prompts(self) -> int:
        """How many prompts give every step fresh completions."""
        return math.ceil(self.steps * self.batch_size / self.completions)
