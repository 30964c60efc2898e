"""Subsets of N of a question's M traces: all of them where they are few, else random ones of a seed of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlsf.files import digest

Masks = NDArray[np.bool_]


class Subsets:
    """The subsets of several questions with M traces each.

    Random ones are beginnings of random orders of the traces, one order a subset, so that those of different N are
    nested. Philox keyed by SHA-256 of (seed, question id): they do not depend on the other questions.
    """

    def __init__(self, ids: Sequence[str], traces: int, count: int, seed: int) -> None:
        self._traces, self._count = traces, count
        drawn = np.stack([_uniforms(id, (count, traces), seed) for id in ids])
        self._places = drawn.argsort(axis=-1).argsort(axis=-1)

    def of(self, size: int) -> Masks:
        """Which traces are in each subset of ``size``, [Q or 1, R, M]; 1 where all questions have the same: all."""
        if math.comb(self._traces, size) <= max(self._count, self._traces):
            return all_subsets(self._traces, size)[None]
        return self._places < size


def all_subsets(traces: int, size: int) -> Masks:
    """Every subset of ``size`` of the traces, [C(M, N), M]."""
    chosen = np.array(list(itertools.combinations(range(traces), size)))
    masks = np.zeros((len(chosen), traces), bool)
    np.put_along_axis(masks, chosen, True, axis=1)
    return masks


def _uniforms(id: str, shape: tuple[int, int], seed: int) -> NDArray[np.float64]:
    return np.random.Generator(np.random.Philox(key=int(digest([seed, id])[:32], 16))).random(shape)
