"""Monotone maps from raw quantities to confidences in [0, 1]."""

from __future__ import annotations

import math


def identity(value: float, vocabulary_size: int) -> float:
    """For quantities that are probabilities or differences of probabilities."""
    return value


def exponential(logprob: float, vocabulary_size: int) -> float:
    """exp(logprob): a mean log-probability in nats becomes the geometric mean of the probabilities."""
    return math.exp(logprob)


def one_minus_relative_entropy(entropy: float, vocabulary_size: int) -> float:
    """1 - H / log V: 1 for a certain distribution, 0 for the uniform one. ``entropy`` in nats."""
    return 1.0 - entropy / math.log(vocabulary_size)


def self_certainty_share(self_certainty: float, vocabulary_size: int) -> float:
    """KL / (KL + log V), with KL = KL(U || p) in nats: 0 for the uniform distribution, towards 1 without bound.

    1/2 where the geometric mean of the probabilities is V^-2. The scale log V keeps the values of real models
    (KL of 1 to 3 times log V) apart, where 1 - exp(-KL) would round them all to 1. An index, not a probability.
    """
    return self_certainty / (self_certainty + math.log(vocabulary_size))
