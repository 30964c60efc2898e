"""The internal rewards on distributions worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from rlsf.errors import InputError
from rlsf.rewards import PolicyReward, SelfCertainty, TokenEntropy, TrajectoryEntropy
from rlsf.rewards.policy_reward import COLUMNS
from rlsf.tokenstats import TokenStatistics
from rlsf.tokenstats.from_logits import statistics_of_logits


def of_logits(logits: Sequence[Sequence[float]], ids: Sequence[int], temperature: float = 1.0) -> TokenStatistics:
    rows = torch.tensor(logits)
    return statistics_of_logits(rows, torch.tensor(ids), temperature=temperature).to_token_statistics(rows.shape[1])


def of_probabilities(probabilities: Sequence[Sequence[float]], ids: Sequence[int]) -> TokenStatistics:
    return of_logits(np.log(probabilities).tolist(), ids)


def value(reward: PolicyReward, tokens: TokenStatistics) -> float:
    [found] = reward([[0] * len(tokens)], **{COLUMNS[reward.temperature]: [tokens]})
    assert found is not None
    return found


def test_self_certainty_of_intuitors_example() -> None:
    logits = [[math.log(8), 0.0, 0.0, 0.0]]
    assert value(SelfCertainty(), of_logits(logits, [0])) == pytest.approx(0.491741, abs=1e-6)
    assert value(SelfCertainty(temperature="sampling"), of_logits(logits, [0], 0.6)) == pytest.approx(
        1.302620, abs=1e-6
    )


def test_self_certainty_and_entropy_can_rank_in_opposite_order() -> None:
    one = of_probabilities([[0.9, 0.0334, 0.0333, 0.0333]], [0])
    other = of_probabilities([[0.6, 0.3999, 5e-5, 5e-5]], [0])
    assert (value(TokenEntropy(), one), value(SelfCertainty(), one)) == pytest.approx((-0.4349, 1.1909), abs=1e-4)
    assert (value(TokenEntropy(), other), value(SelfCertainty(), other)) == pytest.approx((-0.6740, 3.9223), abs=1e-4)


def test_uniform_distributions_are_zero() -> None:
    assert value(SelfCertainty(), of_logits([[2.5] * 7] * 3, [0, 1, 2])) == pytest.approx(0.0, abs=1e-6)


def test_means_and_sums_over_tokens() -> None:
    tokens = of_probabilities([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]], [1, 0])
    entropies = [1.5 * math.log(2), -(0.8 * math.log(0.8) + 0.2 * math.log(0.1))]
    assert value(TokenEntropy(), tokens) == pytest.approx(-sum(entropies) / 2, abs=1e-6)
    total = math.log(0.25) + math.log(0.8)
    assert value(TrajectoryEntropy(), tokens) == pytest.approx(total, abs=1e-6)
    assert value(TrajectoryEntropy(per_token=True), tokens) == pytest.approx(total / 2, abs=1e-6)


def test_the_trajectory_reward_is_minus_the_entropy_in_expectation() -> None:
    """A policy of two steps over two tokens: E[log pi(o)] = -E[sum_t H_t], both -H(pi)."""
    first, second = [0.3, 0.7], [[0.9, 0.1], [0.45, 0.55]]
    of_trajectory = of_entropy = 0.0
    for one in (0, 1):
        for two in (0, 1):
            tokens = of_probabilities([first, second[one]], [one, two])
            probability = first[one] * second[one][two]
            of_trajectory += probability * value(TrajectoryEntropy(), tokens)
            of_entropy += probability * 2 * value(TokenEntropy(), tokens)
    assert of_trajectory == pytest.approx(of_entropy, abs=1e-6)


@pytest.mark.parametrize("reward", [SelfCertainty(), TokenEntropy(), TrajectoryEntropy()])
def test_no_tokens_no_reward(reward: PolicyReward) -> None:
    assert reward([[]], policy_statistics=[TokenStatistics.missing(0, 5)]) == [None]


def test_a_trainer_that_measures_nothing_is_named() -> None:
    with pytest.raises(InputError, match=r"SelfCertainty.*PolicyStatistics"):
        SelfCertainty()([[1]])
    with pytest.raises(InputError, match="lukewarm"):
        SelfCertainty(temperature="lukewarm")  # pyright: ignore[reportArgumentType]
