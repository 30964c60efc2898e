"""Labels: none covers another, a point or the edge where there is room; each stays near its own point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsf.report.label_placement import anchor, place_labels

BOUNDS = (700.0, 380.0)


def boxes(points, sizes):
    corners = place_labels(points, sizes, BOUNDS)
    return [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, sizes, strict=True)]


def covers(a, b) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def crowd(seed: int, count: int = 20) -> tuple[list, list]:
    """Points in a heap in the middle of the figure, with names as long as those of recipes."""
    generator = np.random.default_rng(seed)
    points = np.clip(generator.normal((350, 190), (90, 50), size=(count, 2)), 10, (690, 370))
    return [tuple(point) for point in points], [(float(generator.integers(20, 110)), 10.0) for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_twenty_labels_do_not_collide(seed: int):
    points, sizes = crowd(seed)
    found = boxes(points, sizes)
    for i, one in enumerate(found):
        assert one[0] >= 0
        assert one[1] >= 0
        assert one[2] <= BOUNDS[0]
        assert one[3] <= BOUNDS[1]
        assert not any(covers(one, other) for other in found[:i])
        assert not any(one[0] < x < one[2] and one[1] < y < one[3] for x, y in points)


def test_coinciding_points_get_labels_apart():
    found = boxes([(300.0, 200.0)] * 6, [(60.0, 10.0)] * 6)
    assert not any(covers(a, b) for i, a in enumerate(found) for b in found[:i])


def test_a_lone_label_is_beside_its_point():
    ((x, y),) = place_labels([(300.0, 200.0)], [(50.0, 10.0)], BOUNDS)
    meets = anchor((300.0, 200.0), (x, y), (50.0, 10.0))
    assert np.hypot(meets[0] - 300, meets[1] - 200) < 10


@settings(max_examples=20)
@given(st.lists(st.tuples(st.floats(0, 700), st.floats(0, 380)), max_size=6))
def test_any_points_have_places_inside(points):
    found = boxes(points, [(40.0, 10.0)] * len(points))
    assert all(box[0] >= 0 and box[1] >= 0 and box[2] <= BOUNDS[0] and box[3] <= BOUNDS[1] for box in found)
    assert found == boxes(points, [(40.0, 10.0)] * len(points))


def test_a_label_makes_way_for_a_line():
    point, size = (300.0, 200.0), (60.0, 10.0)
    ((x, y),) = place_labels([point], [size], BOUNDS)
    line = [(x + 5.0 * step, y + 5) for step in range(13)]
    ((moved_x, moved_y),) = place_labels([point], [size], BOUNDS, line)
    assert not any(moved_x <= a <= moved_x + 60 and moved_y <= b <= moved_y + 10 for a, b in line)
    meets = anchor(point, (moved_x, moved_y), size)
    assert np.hypot(meets[0] - 300, meets[1] - 200) < 15
