"""How preferences become a policy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.training.passes_config import PassesSection


class LoraSection(Section):
    """Low-rank adapters (PEFT)."""

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rank_stabilised: bool = True
    """Scale by alpha / sqrt(rank) instead of alpha / rank."""
    target_modules: str | tuple[str, ...] = "all-linear"


class SelectionConfig(Section):
    """Label-free choice of the checkpoint, by agreement on unlabelled prompts held out from training."""

    enabled: bool = True
    prompts: int = Field(default=64, ge=1)
    """Unlabelled training prompts set aside for the probe."""
    every: int = Field(default=20, ge=1)
    """Optimiser steps between probes."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many probes without a better one; none: train to the end, keep the best."""


class TrainingConfig(PassesSection):
    """Direct preference optimisation on confidence-ranked pairs (arXiv 2305.18290) and what keeps it stable.

    An objective of TRL's own that ``trainer`` chooses (``loss_type``, ``f_divergence_type`` ...) replaces ours as a
    whole, the NLL term included.
    """

    place = "training"
    trainer_module = "rlsf.training.options"

    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """``ipo`` (arXiv 2310.12036) divides each trace's log-ratio by its length, as TRL does."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull towards the reference policy."""
    likelihood: Literal["conditional", "joint"] = "conditional"
    """Of what the log-ratio is: the trace given its prompt, or, ``joint``, prompt and trace. It makes a difference
    where the two sides of a pair have prompts of their own, as those of ``conditioning``."""
    nll_weight: float = Field(default=1.0, ge=0)
    """Weight of the per-token negative log-likelihood of the chosen trace; guards against likelihood displacement."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Conservative DPO: the probability that a preference is the wrong way round."""
    use_margin: bool = False
    """Subtract ``margin_scale`` x the pair's margin from the logit (ODPO with identity offset). ``ranking.margin`` says
    what the margin is: the gap in confidence itself under ``gap``, above 1 under ``exponential``."""
    margin_scale: float = Field(default=1.0, ge=0)
    use_weight: bool = False
    """Weigh each pair's preference loss by its confidence gap, normalised to mean one over the data."""
    precompute_reference: bool = True
    """Compute the reference log-probabilities once, so that no second model is held in memory."""
    lora: LoraSection | None = None
    """None trains all weights."""
    rounds: int = Field(default=1, ge=1)
    """Self-training rounds: sample with the current policy, rank, train."""
    reference: Literal["round", "start"] = "round"
    """What log-ratios are measured against from the second round on: the policy that the round begins with, or, as a
    fixed reference (CORE-PO, arXiv 2505.17454), the model at the very start."""
    selection: SelectionConfig = SelectionConfig()

    @model_validator(mode="after")
    def _fixed_reference(self) -> TrainingConfig:
        if self.reference == "start" and not self.precompute_reference:
            raise ValueError(
                "training.reference=start needs training.precompute_reference=true: the first model is not kept in"
                " memory beside the policy"
            )
        return self

    @model_validator(mode="after")
    def _traces_alone_stay_likely(self) -> TrainingConfig:
        if self.likelihood == "joint" and self.nll_weight:
            raise ValueError(
                "training.likelihood=joint would count the prompt in the NLL of the chosen trace: set"
                " training.nll_weight=0"
            )
        return self

    @model_validator(mode="after")
    def _scale_of_what_is_used(self) -> TrainingConfig:
        if self.margin_scale != 1 and not self.use_margin:
            raise ValueError(
                f"training.margin_scale={self.margin_scale:g} has no effect without training.use_margin=true: set that"
                " too, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _sigmoid_options(self) -> TrainingConfig:
        if self.loss == "ipo" and (self.label_smoothing or self.use_margin):
            raise ValueError(
                "training.label_smoothing and training.use_margin belong to training.loss=sigmoid: IPO has neither"
            )
        return self
