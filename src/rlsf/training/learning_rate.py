"""The learning rate where none is given."""

from __future__ import annotations

import math

#: (number of weights, peak learning rate). The first is the best of four on the bundled model (docs/training.md). The
#: second is TRL's default for DPO and that of the public code of arXiv 2507.21931, whose models have 2 to 9 billion.
SMALL, LARGE = (1e6, 3e-4), (1e9, 1e-6)
#: Adapters start at zero and reach the weights through a product of two thin matrices; TRL's own example of DPO and
#: "LoRA Without Regret" (Schulman et al. 2025) take ten times the rate of full training.
ADAPTER_FACTOR = 10


def default_learning_rate(weights: int, *, adapters: bool) -> float:
    """Peak learning rate for a model of so many weights, to one significant digit.

    A straight line in logarithms from ``SMALL`` to ``LARGE``, constant outside: ``1e-6 (1e9 / weights)^0.826``; with
    adapters ``ADAPTER_FACTOR`` times that. A starting point between two known ones, not an optimum.
    """
    (small, high), (large, low) = SMALL, LARGE
    slope = math.log(high / low) / math.log(large / small)
    rate = low * (large / min(max(weights, small), large)) ** slope
    return float(f"{rate * (ADAPTER_FACTOR if adapters else 1):.0e}")
