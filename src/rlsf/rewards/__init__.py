"""Reward functions for TRL's online trainers (GRPO, RLOO): of self-feedback, and two that need gold answers.

Each is a TRL reward function with the ordinary signature. Those that need the policy's own distributions get them from
a trainer with ``rlsf.training.policy_statistics.PolicyStatistics`` mixed in.
"""

from rlsf.rewards.agreement import MajorityAgreement
from rlsf.rewards.calibration import BrierCalibration
from rlsf.rewards.confidence import AnswerConfidence, TraceConfidence
from rlsf.rewards.correctness import Correctness
from rlsf.rewards.internal import SelfCertainty, TokenEntropy, TrajectoryEntropy
from rlsf.rewards.policy_reward import PolicyReward
from rlsf.rewards.reward_model import RewardModelScore
from rlsf.rewards.verification import SelfVerification

__all__ = [
    "AnswerConfidence",
    "BrierCalibration",
    "Correctness",
    "MajorityAgreement",
    "PolicyReward",
    "RewardModelScore",
    "SelfCertainty",
    "SelfVerification",
    "TokenEntropy",
    "TraceConfidence",
    "TrajectoryEntropy",
]
