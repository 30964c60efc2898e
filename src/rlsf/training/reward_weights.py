"""Weights of reward-weighted regression."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlsf.errors import InputError

#: The largest number of float32.
LARGEST = (2 - 2**-23) * 2.0**127


def reward_weights(rewards: Sequence[float], tau: float, *, normalise: bool = False) -> list[float]:
    """exp(r / tau) of each reward (arXiv 2407.18219), at tau = 0.4: 12.18 for 1, 1 for 0, 0.082 for -1.

    ``normalise`` divides by the mean, so that the weights are those of a softmax times their number and a constant
    added to all rewards changes nothing. Raises ``InputError`` for a tau that is not positive, and for weights beyond
    the largest number of float32, in which losses are computed.
    """
    if not tau > 0:
        raise InputError(f"tau={tau} must be positive")
    if not rewards:
        return []
    # The mean is taken of what is left after the largest reward, which no tau can make overflow.
    largest = max(rewards) if normalise else 0.0
    try:
        weights = [math.exp((reward - largest) / tau) for reward in rewards]
    except OverflowError:
        weights = [math.inf]
    if max(weights) > LARGEST:
        raise InputError(
            f"exp(reward / tau) of reward {max(rewards):g} at tau={tau:g} is too large: raise tau, or divide weights by"
            " their mean (normalise_weights)"
        )
    mean = math.fsum(weights) / len(weights) if normalise else 1.0
    return [weight / mean for weight in weights]
