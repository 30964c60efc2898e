"""Which rewards a recipe learns from, by name: a table each, with a weight and what the reward leaves open."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.errors import InputError
from rlsf.rewards.grading import GradeForm
from rlsf.rewards.policy_reward import Temperature


class RewardSection(Section):
    """What every reward has."""

    weight: float = 1.0
    """Factor in the sum of rewards; 0 only logs."""


class PolicyRewardSection(RewardSection):
    """A reward of the policy's own distributions."""

    temperature: Temperature = "raw"
    """Distributions at temperature 1 (``raw``), or at that at which completions are sampled."""


class TrajectoryEntropySection(PolicyRewardSection):
    """log pi(o | q)."""

    per_token: bool = False
    """Divide by the number of tokens."""


class AnswerConfidenceSection(RewardSection):
    """The confidence of a trace by a signal of ``rlsf.confidence``, at temperature 1."""

    signal: str = "answer_disparity"
    without_answer: float | None = 0.0
    """The reward of a completion without an answer; None leaves it out of the update."""


class MajoritySection(RewardSection):
    """Agreement with the majority of a prompt's completions."""

    reward: Literal["majority", "share"] = "majority"
    """1 for the majority's answer, or each answer's share of the completions."""


class BrierSection(RewardSection):
    """RLCR: correctness less the Brier score of a confidence in words."""

    analysis: bool = True
    """Ask for the part <analysis>."""
    form: Literal["paper", "published"] = "paper"
    """The scale: c - (q - c)^2 as in the paper, or (format + c + 1 - (q - c)^2) / 2 as in its code."""
    written: Literal["tags", "line"] = "tags"
    """Where the confidence stands: in RLCR's tags, or, for small models, in a last line ``Confidence: 0.9`` under an
    answer in the recipe's format."""
    malformed: float | None = None
    """The reward of a malformed completion; None: -1 in the paper's form, 0 in the published one."""


class VerificationSection(RewardSection):
    """RISE: solve, and grade one's own fresh solutions, in one batch."""

    verdict: Literal["gold", "agreement"] = "gold"
    """What a solution is judged by: its gold answer, as published, or the majority of its prompt's completions."""
    share: Annotated[float, Field(gt=0, lt=1)] = 1 / 9
    """Part of the completions that are gradings."""
    form: GradeForm = "boxed"
    """A grade as ``\\boxed{1}``, as published, or as a line ``Grade: 1.0``, which small models find easier."""
    template: str = "full"
    """What asks for a grade: ``full``, ``terse``, or a text with {question} and {solution}."""


class RewardModelSection(RewardSection):
    """The score of a reward model."""

    path: str | None = None
    """A reward model over the policy's vocabulary, a folder or hub id; none: the one that this run trains (the recipe's
    section ``reward_model``)."""
    normalise: Literal["none", "whiten"] = "none"
    """``whiten``: less the mean, divided by the deviation, of the traces on which the reward model was measured."""


class RewardsConfig(Section):
    """The rewards that are summed, each with its weight; those left at null are not computed."""

    self_certainty: PolicyRewardSection | None = None
    token_entropy: PolicyRewardSection | None = None
    trajectory_entropy: TrajectoryEntropySection | None = None
    answer_confidence: AnswerConfidenceSection | None = None
    majority_agreement: MajoritySection | None = None
    correctness: RewardSection | None = None
    brier_calibration: BrierSection | None = None
    self_verification: VerificationSection | None = None
    reward_model: RewardModelSection | None = None

    @property
    def chosen(self) -> dict[str, RewardSection]:
        """The rewards in use, by name."""
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: section for name, section in sections.items() if section is not None}

    def require_one(self) -> None:
        """Raise ``InputError`` where no reward is in use."""
        if not self.chosen:
            raise InputError("no reward to learn from: set one of online.rewards, self_certainty for instance")

    @property
    def needing_labels(self) -> list[str]:
        """Names of the rewards in use that look at gold answers."""
        judged = self.self_verification is not None and self.self_verification.verdict == "gold"
        needing = {"correctness", "brier_calibration", *(("self_verification",) if judged else ())}
        return [name for name in self.chosen if name in needing]

    @model_validator(mode="after")
    def _one_task(self) -> RewardsConfig:
        if self.self_verification is not None and len(self.chosen) > 1:
            other = next(name for name in self.chosen if name != "self_verification")
            raise ValueError(
                f"online.rewards.{other} beside self_verification, whose batches hold gradings as well: choose one"
            )
        return self
