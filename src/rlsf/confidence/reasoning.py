"""Our signal: how sure the model was of the values in a trace, at the places where it was least sure.

A trace that ends by copying its last result is sure of the copy whether or not the result is right, so the answer
span alone cannot tell. What can go wrong before is the choice of a number or of a sign. ``docs/signals.md`` has the
reasons for this form and the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rlsf.confidence.values import value_spans
from rlsf.traces import Trace

#: The share of the values, the least sure ones, that is averaged.
WEAKEST = 0.1


def trace_confidence(trace: Trace, pieces: Sequence[str]) -> float:
    """Mean log-probability of the least sure tenth of the values of a trace, in nats.

    With the values u = 1..n of ``value_spans`` and log P_u = sum of log p_t(y_t) over the tokens of u: the mean of
    the ceil(n / 10) smallest log P_u, so the smallest alone up to ten values. The smallest P_u is the upper bound of
    the probability that all values are right, whatever their dependence; in longer traces, where some value is always
    a matter of taste, it is averaged with the next smallest. The share is that of arXiv 2508.15260 (bottom 10 % group
    confidence), which takes it over windows of tokens.
    """
    assert trace.answer is not None, "asked only for traces with an answer"
    spans = value_spans(pieces, (trace.answer.start, trace.answer.end))
    logprob = trace.statistics.logprob
    values = np.sort([logprob[first:last].sum(dtype=np.float64) for first, last in spans])
    return float(values[: math.ceil(WEAKEST * len(values))].mean())
