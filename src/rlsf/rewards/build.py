"""Reward functions as a recipe names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.models import ModelConfig
from rlsf.rewards.agreement import MajorityAgreement
from rlsf.rewards.calibration import BrierCalibration
from rlsf.rewards.confidence import AnswerConfidence
from rlsf.rewards.config import RewardsConfig
from rlsf.rewards.correctness import Correctness
from rlsf.rewards.internal import SelfCertainty, TokenEntropy, TrajectoryEntropy
from rlsf.rewards.reward_model import RewardModelScore
from rlsf.rewards.verification import SelfVerification

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RewardFunction = Callable[..., Any]


def build_rewards(
    config: RewardsConfig,
    *,
    tokenizer: PreTrainedTokenizerBase,
    answer: AnswerConfig,
    num_generations: int,
    reward_model: ModelConfig | None = None,
) -> dict[str, RewardFunction]:
    """The reward functions that ``config`` chooses, by name, in its order; raises ``InputError`` as they do.

    ``reward_model`` is the one that is scored by, where ``config`` says no path of its own.
    """
    makers: Mapping[str, Callable[[Any], RewardFunction]] = {
        "self_certainty": lambda section: SelfCertainty(temperature=section.temperature),
        "token_entropy": lambda section: TokenEntropy(temperature=section.temperature),
        "trajectory_entropy": lambda section: TrajectoryEntropy(
            per_token=section.per_token, temperature=section.temperature
        ),
        "answer_confidence": lambda section: AnswerConfidence(
            tokenizer, answer=answer, signal=section.signal, without_answer=section.without_answer
        ),
        "majority_agreement": lambda section: MajorityAgreement(
            num_generations=num_generations, answer=answer, reward=section.reward
        ),
        "correctness": lambda _: Correctness(answer),
        "brier_calibration": lambda section: BrierCalibration(
            analysis=section.analysis,
            form=section.form,
            malformed=section.malformed,
            written=section.written,
            answer=answer,
        ),
        "self_verification": lambda section: SelfVerification(form=section.form),
        "reward_model": lambda section: RewardModelScore(
            _reward_model(section.path, reward_model), tokenizer=tokenizer, normalise=section.normalise
        ),
    }
    return {name: makers[name](section) for name, section in config.chosen.items()}


def _reward_model(path: str | None, own: ModelConfig | None) -> ModelConfig:
    """The reward model at ``path``, else the run's own."""
    if path is not None:
        return (own or ModelConfig()).model_copy(update={"path": path, "revision": None})
    if own is None:
        raise InputError(
            "online.rewards.reward_model has no reward model to score by: set online.rewards.reward_model.path, or the"
            " recipe's section reward_model, which trains one"
        )
    return own
