"""Quantities of the answer span: arithmetic means over the tokens of the final answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlsf.tokenstats.statistics import TokenStatistics
from rlsf.traces import Trace


def _span(trace: Trace) -> TokenStatistics:
    assert trace.answer is not None, "signals of the answer span are asked only for traces with an answer"
    return trace.statistics[trace.answer.start : trace.answer.end]


def answer_disparity(trace: Trace, pieces: Sequence[str]) -> float:
    """(1/n) sum_t max(0, p_t(y_t) - max_{v != y_t} p_t(v)) over the n answer tokens (arXiv 2507.21931)."""
    return float(np.mean(_span(trace).disparity, dtype=np.float64))


def answer_top_gap(trace: Trace, pieces: Sequence[str]) -> float:
    """(1/n) sum_t [p_t(top 1) - p_t(top 2)] over the n answer tokens: Delta of arXiv 2402.10200, eq. 1."""
    return float(np.mean(_span(trace).top_gap, dtype=np.float64))


def answer_probability(trace: Trace, pieces: Sequence[str]) -> float:
    """(1/n) sum_t p_t(y_t) over the n answer tokens."""
    return float(np.mean(_span(trace).probability, dtype=np.float64))


def answer_entropy(trace: Trace, pieces: Sequence[str]) -> float:
    """(1/n) sum_t H(p_t) over the n answer tokens, in nats."""
    return float(np.mean(_span(trace).entropy, dtype=np.float64))
