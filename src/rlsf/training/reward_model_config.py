"""How preference pairs become a reward model."""

from __future__ import annotations

from pydantic import Field

from rlsf.training.config import LoraSection
from rlsf.training.passes_config import PassesSection


class RewardModelConfig(PassesSection):
    """A Bradley-Terry reward model on the ranked pairs, the first step of RLSF's second route (arXiv 2507.21931).

    The learning rate falls to 0 along a line.
    """

    place = "reward_model"
    trainer_module = "rlsf.training.reward_model"

    use_margin: bool = True
    """Ask for a difference of rewards of the pair's margin, which ``ranking.margin`` says how to compute. The paper's,
    exp(gap), is never below 1: the least gap in confidence then asks for a difference of one logit. ``ranking.margin:
    gap`` asks for the gap itself, False for any difference above 0."""
    centre_rewards: float = Field(default=0.0, ge=0)
    """Weight of (r_chosen + r_rejected)^2, which keeps rewards around 0 (arXiv 2312.09244); 0: no such term."""
    held_out: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the prompts whose pairs are kept out of training, to measure the reward model on."""
    lora: LoraSection | None = None
    """Adapters, merged into the weights when the model is saved; the head trains in full. None trains all weights."""
