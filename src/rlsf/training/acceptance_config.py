"""How a frozen policy's records become an acceptance model."""

from __future__ import annotations

from pydantic import Field

from rlsf.training.config import LoraSection
from rlsf.training.passes_config import PassesSection


class AcceptanceTrainingConfig(PassesSection):
    """Binary cross-entropy on attempts that are right or wrong, both kinds weighing the same (arXiv 2501.01457).

    The learning rate falls to 0 along a line.
    """

    place = "acceptance.training"
    trainer_module = "rlsf.training.acceptance"

    epochs: float = Field(default=2.0, gt=0)
    """Passes over the attempts."""
    lora: LoraSection | None = None
    """Adapters, merged into the weights when the model is saved; the head trains in full. None trains all weights."""
