"""How often a selector is right on subsets of a question's traces, for many questions and subsets at once.

Arrays: ``classes``, ``sureness`` and ``correct`` [Q, M], as in ``GradedTraces``; ``included`` [Q or 1, R, M].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rlsf.evaluation.groups import FloatArray, IntArray
from rlsf.select.selectors import Selector
from rlsf.select.subsets import Masks

#: Sums of the same votes in another order differ by less than this; such sums are ties.
_ROUNDING = 1e-12


def vote_accuracy(
    selector: Selector, classes: IntArray, sureness: FloatArray, correct: Masks, included: Masks, size: int
) -> FloatArray:
    """The share of the subsets, each of ``size`` traces, in which the vote of ``selector`` is right, [Q].

    ``Selector.choose`` on every subset at once. A subset in which no trace has an answer is wrong.
    """
    included = np.broadcast_to(included, (len(classes), *included.shape[1:]))
    order = _by_sureness(sureness)
    weights = _weights(selector, included, sureness, order, size)
    members = classes[:, :, None] == np.arange(max(1, classes.max() + 1))  # [Q, M, classes]
    sums = weights @ members.astype(np.float64)  # [Q, R, classes]
    own = np.take_along_axis(sums, np.broadcast_to(np.maximum(classes, 0)[:, None], included.shape), axis=-1)
    standing = np.where(included & (classes >= 0)[:, None], own, -1.0)  # of each trace: the votes for its answer
    best = standing.max(axis=-1, keepdims=True)
    # The first trace of a winning answer: among equal sums that of the answer given first.
    first = (standing >= best - _ROUNDING * np.abs(best)).argmax(axis=-1)
    return (np.take_along_axis(correct, first, axis=-1) & (best[..., 0] >= 0)).mean(axis=-1)


def _weights(
    selector: Selector, included: Masks, sureness: FloatArray, order: IntArray, size: int
) -> NDArray[np.float64]:
    """The vote of each trace, 0 where it is not in the subset, [Q, R, M]."""
    if selector.kind == "majority":
        return included.astype(np.float64)
    if selector.kind == "weighted":
        return np.where(included, np.where(sureness == -np.inf, 0.0, sureness)[:, None], 0.0)
    table = np.arange(size, -1.0, -1.0) ** selector.exponent_for(size)  # v(r) at place r - 1
    ahead = np.take_along_axis(included, np.broadcast_to(order[:, None], included.shape), axis=-1)
    votes = np.where(ahead, table[np.cumsum(ahead, axis=-1) - 1], 0.0)
    back = np.argsort(order, axis=-1)[:, None]
    return np.take_along_axis(votes, np.broadcast_to(back, included.shape), axis=-1)


def argmax_accuracy(classes: IntArray, sureness: FloatArray, correct: Masks, size: int) -> FloatArray:
    """The exact probability that the surest answered trace of a random subset of N is right, [Q].

    The j-th surest of the answered traces, j from 0, is the surest of C(M - 1 - j, N - 1) of the C(M, N) subsets.
    """
    traces = classes.shape[1]
    subsets = math.comb(traces, size)
    share = np.array([math.comb(traces - 1 - place, size - 1) / subsets for place in range(traces)])
    order = _by_sureness(np.where(classes >= 0, sureness, -np.inf), classes < 0)
    return np.take_along_axis(correct, order, axis=-1).astype(np.float64) @ share


def _by_sureness(sureness: FloatArray, last: Masks | None = None) -> IntArray:
    """Traces of each question from the surest on, ties to the first, those of ``last`` after all others, [Q, M]."""
    keys = (-sureness,) if last is None else (-sureness, last)
    return np.lexsort(keys, axis=-1)
