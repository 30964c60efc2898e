"""An axis for errors of which most are small: the distance from 0 grows with the square root."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from rlsf.evaluation.groups import FloatArray

#: What ticks are multiples of, the first choice first.
_STEPS = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
#: Multiples of the finer half are for narrow axes, which have fewer ticks than this otherwise.
_COARSE, _ENOUGH = 0.01, 4
#: The distance of neighbouring ticks in parts of the axis is at least this.
_GAP = 0.052
_MARGIN = 0.04


def root_scale(axes: Axes, low: float, high: float) -> None:
    """Let the x axis reach from ``low`` to ``high``, 0 <= low <= high <= 1, with a little room on both sides."""
    start, end = (float(bound) for bound in _root(np.array([low, high])))
    room = _MARGIN * (end - start) or _MARGIN
    axes.set_xscale("function", functions=(_root, _square))
    limits = _square(np.array([start - room, end + room]))
    axes.set_xlim(float(limits[0]), float(limits[1]))
    axes.xaxis.set_major_locator(FixedLocator(_ticks(start - room, end + room)))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter("{x:.3g}")


def _ticks(start: float, end: float) -> list[float]:
    """Round values between two roots, the coarser ones first, as many as have room."""
    found: list[float] = []
    for step in _STEPS:
        if step < _COARSE and len(found) >= _ENOUGH:
            break
        for multiple in range(round(1 / step) + 1):
            value = step * multiple
            at = [(float(np.sqrt(one)) - start) / (end - start) for one in (value, *found)]
            if 0 <= at[0] <= 1 and all(abs(at[0] - other) >= _GAP for other in at[1:]):
                found.append(value)
    return sorted(found)


def _root(values: FloatArray) -> FloatArray:
    """Odd, so that there may be room below 0."""
    return np.sign(values) * np.sqrt(np.abs(values))


def _square(roots: FloatArray) -> FloatArray:
    return np.sign(roots) * np.square(roots)
