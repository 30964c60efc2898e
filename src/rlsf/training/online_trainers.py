"""The trainers of a run that learns online: TRL's, with seeded rollouts, the policy's statistics and vital signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

from rlsf.answers.config import AnswerConfig
from rlsf.rewards.said import answer_said
from rlsf.training.nft import NegativeAwareLoss
from rlsf.training.observer import ROLLOUTS
from rlsf.training.policy_statistics import PolicyStatistics
from rlsf.training.prefix_sharing import SharedPrompts
from rlsf.training.rollouts import SeededRollouts
from rlsf.training.verification import MixedVerification
from rlsf.training.vital_signs import vital_signs
from rlsf.training.whole_checkpoints import WholeCheckpoints

if TYPE_CHECKING:
    _OnlineTrainer = Any  # whichever it is mixed into
else:
    _OnlineTrainer = object


class VitalSigns(_OnlineTrainer):
    """Logs the vital signs of every batch of rollouts; gradings, which answer no question, are left out."""

    def __init__(self, *args: Any, answer: AnswerConfig, **kwargs: Any) -> None:
        self.answer = answer
        super().__init__(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in self._signs().items():
            metrics[ROLLOUTS + name].append(value)
        return output

    def _signs(self) -> dict[str, float]:
        """Of the completions of all processes together: the share of a commonest answer, for one, is no mean of theirs.

        Every process computes the same numbers, so that a guard stops all of them or none.
        """
        told = [
            (trace, answer_said(trace.text, self.answer, row.get("choices")))
            for row, trace in zip(self._rows, self._traces, strict=True)
            if row.get("kind") != "grade"
        ]
        everywhere = gather_object(told)
        return vital_signs([trace for trace, _ in everywhere], [answer for _, answer in everywhere])


class OnlineGRPOTrainer(WholeCheckpoints, VitalSigns, SeededRollouts, PolicyStatistics, SharedPrompts, GRPOTrainer):
    """GRPO (arXiv 2402.03300)."""

    section = "online"


class OnlineRLOOTrainer(WholeCheckpoints, VitalSigns, SeededRollouts, PolicyStatistics, SharedPrompts, RLOOTrainer):
    """RLOO (arXiv 2402.14740)."""

    section = "online"


class OnlineNFTTrainer(NegativeAwareLoss, OnlineGRPOTrainer):
    """NFT (arXiv 2505.18116)."""


class VerifyingGRPOTrainer(MixedVerification, OnlineGRPOTrainer):
    """GRPO over solutions and gradings of them in one batch (RISE, arXiv 2505.13445)."""


class VerifyingRLOOTrainer(MixedVerification, OnlineRLOOTrainer):
    """The same by RLOO."""
