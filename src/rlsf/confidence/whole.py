"""Quantities of the whole trace: over all of its tokens, end of sequence included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlsf.traces import Trace


def mean_logprob(trace: Trace, pieces: Sequence[str]) -> float:
    """(1/T) sum_t log p_t(y_t), in nats."""
    return float(np.mean(trace.statistics.logprob, dtype=np.float64))


def mean_disparity(trace: Trace, pieces: Sequence[str]) -> float:
    """(1/T) sum_t of the disparity at token t."""
    return float(np.mean(trace.statistics.disparity, dtype=np.float64))


def minimum_disparity(trace: Trace, pieces: Sequence[str]) -> float:
    """min_t of the disparity at token t, the first token left out where there are others.

    Under CoT-decoding the first token is imposed by its rank: its disparity is 0 in every branch but the greedy
    one and says nothing about the trace.
    """
    disparity = trace.statistics.disparity
    return float(np.min(disparity[1:] if len(disparity) > 1 else disparity))


def self_certainty(trace: Trace, pieces: Sequence[str]) -> float:
    """(1/T) sum_t KL(U || p_t), in nats (arXiv 2502.18581, eq. 8)."""
    return float(np.mean(trace.statistics.self_certainty, dtype=np.float64))
