"""How a reward is recovered from two models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.training.max_margin import Objective
from rlsf.training.reward_model_config import RewardModelConfig

#: Keys of a reward model on ranked pairs that mean nothing here, and what takes their place.
_ELSEWHERE = {"held_out": "audit.held_out", "use_margin": "audit.objective"}


class RecoveredModelConfig(RewardModelConfig):
    """The reward model that is recovered: the start's body under a new head. ``audit.held_out`` says what is kept out,
    and pairs have no margins."""

    use_margin: bool = False
    held_out: float = 0.0
    epochs: float = Field(default=3.0, gt=0)
    """Passes over the pairs; the last step is kept, so that nothing is chosen by the pairs that are measured on."""

    @model_validator(mode="after")
    def _what_is_said_elsewhere(self) -> RecoveredModelConfig:
        for key, place in _ELSEWHERE.items():
            if getattr(self, key):
                raise ValueError(f"audit.model.{key} means nothing in an audit: see {place}")
        return self


class AuditConfig(Section):
    """What is sampled from both models, and which rewards are fitted to it (arXiv 2410.12491)."""

    objective: Objective = "hinge"
    """What is minimised of d, the reward of the trace after training less that before. ``hinge``: max(0, 1 - d);
    ``logistic``: log(1 + exp(-d)); ``margin``: the published -p(d), with a ceiling of 1 for p, without which it has no
    minimum."""
    rewards: Literal["both", "features", "model"] = "both"
    """``features``: a linear reward of a few figures of a trace, for people to read. ``model``: a reward model that
    reads the trace, for other trainings to use."""
    decoding: Literal["sampling", "greedy"] = "sampling"
    """How both models write; the published demonstrations are greedy."""
    traces: int = Field(default=1, ge=1)
    """Traces of each model for a prompt; the first of both are a pair, the second, and so on."""
    question_traces: int = Field(default=4, ge=1)
    """Traces of each model for a labelled question, where sampled: right and wrong ones of one question can then be
    compared."""
    held_out: float = Field(default=0.3, gt=0, le=0.5)
    """Share of the prompts that no reward is fitted to."""
    ridge: float = Field(default=0.01, gt=0)
    """Weight of |w|^2 / 2 in the linear reward, per standard deviation of a feature; it bounds what pairs that can be
    told apart without error leave open."""
    splits: int = Field(default=3, ge=1)
    """How often prompts are split anew for the linear reward; the first split is reported, the spread over all."""
    heads: int = Field(default=1, ge=1)
    """Reward models, with other heads and orders of pairs; the first is kept, the spread over all is reported."""
    bootstrap: int = Field(default=200, ge=20)
    """Resamples of prompts behind the intervals of coefficients."""
    model: RecoveredModelConfig = RecoveredModelConfig()

    @model_validator(mode="after")
    def _one_greedy_trace(self) -> AuditConfig:
        if self.decoding == "greedy" and self.traces > 1:
            raise ValueError(f"audit.traces={self.traces}: greedy decoding gives one trace a prompt; say 1, or sample")
        return self

    @property
    def sampling(self) -> dict[str, Any]:
        """What this sets of a recipe's ``sampling`` for prompts."""
        return self._drawing(self.traces)

    @property
    def question_sampling(self) -> dict[str, Any]:
        """The same for labelled questions."""
        return self._drawing(self.question_traces)

    def _drawing(self, traces: int) -> dict[str, Any]:
        if self.decoding == "greedy":  # the first CoT-decoding branch, greedily continued, is greedy decoding
            return {"strategy": "cot_decoding", "continuation": "greedy", "branches": 1}
        return {"strategy": "sampling", "branches": traces}
