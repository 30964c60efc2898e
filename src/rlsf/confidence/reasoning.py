"""Our signal: how sure the model was of everything in a trace that the answer depends on.

A trace that ends by copying its last result is sure of the copy whether or not the result is right, so the answer
span alone cannot tell. Looked at instead are the tokens that carry values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlsf.traces import Trace


def value_tokens(trace: Trace, pieces: Sequence[str]) -> NDArray[np.bool_]:
    """Which tokens carry values, as a mask of shape [T].

    Tokens with a digit and tokens of the answer span; in a trace without any digit, every token with a letter
    but the first, which CoT-decoding imposes, and those of the answer span.
    """
    mask = np.array([any(character.isdecimal() for character in piece) for piece in pieces], dtype=bool)
    if not mask.any():
        mask = np.array([any(character.isalnum() for character in piece) for piece in pieces], dtype=bool)
        mask[0] = False
    if trace.answer is not None:
        mask[trace.answer.start : trace.answer.end] = True
    return mask if mask.any() else np.ones_like(mask)


def trace_confidence(trace: Trace, pieces: Sequence[str]) -> float:
    """(1/n) sum_t log p_t(y_t) over the n tokens that carry values, in nats."""
    return float(np.mean(trace.statistics.logprob[value_tokens(trace, pieces)], dtype=np.float64))
