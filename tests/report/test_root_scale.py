"""The axis of errors: distances are differences of square roots, ticks are round and apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlsf.report.root_scale import root_scale

ERRORS = st.floats(0, 1, allow_subnormal=False)


def scaled(low: float, high: float) -> Axes:
    axes = Figure().add_axes((0, 0, 1, 1))
    root_scale(axes, low, high)
    return axes


def places(axes: Axes, values: list[float]) -> list[float]:
    """Where values stand, in parts of the axis."""
    through = axes.transScale + axes.transLimits
    return [float(through.transform((value, 0.5))[0]) for value in values]


def test_distances_are_those_of_square_roots():
    zero, hundredth, quarter, most = places(scaled(0.0, 0.64), [0.0, 0.01, 0.25, 0.64])
    assert (hundredth - zero) / (most - zero) == pytest.approx(0.1 / 0.8)
    assert (quarter - zero) / (most - zero) == pytest.approx(0.5 / 0.8)
    assert 0 < zero < most < 1


@settings(max_examples=60)
@given(ERRORS, ERRORS)
def test_ticks_are_inside_and_apart_and_what_is_asked_for_too(first: float, second: float):
    low, high = sorted((first, second))
    axes = scaled(low, high)
    assert all(0 < place < 1 for place in places(axes, [low, high]))
    ticks = [float(tick) for tick in axes.get_xticks()]
    assert ticks == sorted(ticks)
    at = places(axes, ticks)
    assert all(0 <= place <= 1 for place in at)
    assert (np.diff(at) > 0.05).all()


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (0.02, 0.13), (0.15, 0.2), (0.1, 1.0), (0.0, 0.02)])
def test_there_are_enough_ticks_to_read(low: float, high: float):
    assert 4 <= len(scaled(low, high).get_xticks()) <= 16
