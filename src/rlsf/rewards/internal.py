"""The three internal rewards of "No Free Lunch" (arXiv 2506.17219), the first of them Intuitor's (arXiv 2505.19590).

They agree in pushing the policy's entropy down, not in their updates: the gradient of the trajectory reward is that of
-H, while GRPO drops how the other two depend on the policy. Each collapses a policy that is trained for long.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlsf.rewards.policy_reward import PolicyReward, Temperature
from rlsf.tokenstats import TokenStatistics


class _OfEachCompletion(PolicyReward):
    """A reward that looks at one completion at a time; one without tokens has none."""

    def rewards(
        self, statistics: Sequence[TokenStatistics], completion_ids: Sequence[Sequence[int]], **columns: Any
    ) -> list[float | None]:
        return [self._reward(tokens) if len(tokens) else None for tokens in statistics]

    @abstractmethod
    def _reward(self, tokens: TokenStatistics) -> float: ...


class SelfCertainty(_OfEachCompletion):
    """mean_t KL(U || p_t) in nats, >= 0: Intuitor's reward (arXiv 2505.19590).

    The uniform distribution comes first: this is not log V - H. One of the published implementations divides logits by
    the sampling temperature (``temperature="sampling"``), the other does not (``"raw"``).
    """

    def _reward(self, tokens: TokenStatistics) -> float:
        return float(tokens.self_certainty.mean(dtype=np.float64))


class TokenEntropy(_OfEachCompletion):
    """-mean_t H(p_t) in nats, <= 0 (arXiv 2506.17219)."""

    def _reward(self, tokens: TokenStatistics) -> float:
        return -float(tokens.entropy.mean(dtype=np.float64))


class TrajectoryEntropy(_OfEachCompletion):
    """log pi(o | q) = sum_t log p_t(o_t) in nats, <= 0 (arXiv 2506.17219); its expectation is -H(pi).

    ``per_token`` divides by the number of tokens, which takes away the preference for short completions, and the
    identity of the expectation with it.
    """

    def __init__(self, *, per_token: bool = False, temperature: Temperature = "raw") -> None:
        super().__init__(temperature=temperature)
        self.per_token = per_token

    def _reward(self, tokens: TokenStatistics) -> float:
        total = float(tokens.logprob.sum(dtype=np.float64))
        return total / len(tokens) if self.per_token else total
