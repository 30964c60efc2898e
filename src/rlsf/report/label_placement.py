"""Names beside points such that none covers another, a point, or the edge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlsf.evaluation.groups import FloatArray

#: Distances from a point that are tried, in points (1/72 inch), and the number of directions at each.
_RADII = (7.0, 13.0, 20.0, 29.0, 40.0, 54.0, 70.0, 90.0, 115.0)
_DIRECTIONS = 20
_PASSES = 6
_COVERS_NAME, _COVERS_POINT, _COVERS_LINE, _CONFUSES, _COVERS_BEAD = 400.0, 60.0, 25.0, 30.0, 2.0
#: Half the width of a point's mark, and the distance below which a label seems to belong to a point.
_POINT, _BELONGS = 4.5, 12.0


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: tuple[float, float],
    beads: Sequence[tuple[float, float]] = (),
) -> list[tuple[float, float]]:
    """The lower left corner of each label; all lengths in points.

    ``points`` [n] inside (0, 0) ... ``bounds``, ``sizes`` (width, height) of labels, ``beads`` on what else is drawn,
    better left uncovered. Every label tries places around its point and takes the cheapest, given all others, in turn
    and a few times over: far is dear, covering a leader line or standing beside another point dearer, then covering a
    point, then another label. Equal input gives equal places.
    """
    at = np.asarray(points, np.float64).reshape(-1, 2)
    extent = np.asarray(sizes, np.float64).reshape(-1, 2)
    choices = [_candidates(point, size, bounds) for point, size in zip(at, extent, strict=True)]
    strung = np.asarray(beads, np.float64).reshape(-1, 2)
    fixed = [_COVERS_BEAD * _covered(options, size, strung) for options, size in zip(choices, extent, strict=True)]
    placed = [options[0] for options in choices]
    for _ in range(_PASSES):
        before = [tuple(corner) for corner in placed]
        for index, options in enumerate(choices):
            costs = fixed[index] + _costs(index, options, placed, at, extent)
            placed[index] = options[int(np.argmin(costs))]
        if [tuple(corner) for corner in placed] == before:
            break
    return [(float(x), float(y)) for x, y in placed]


def anchor(point: tuple[float, float], corner: tuple[float, float], size: tuple[float, float]) -> tuple[float, float]:
    """Where the leader line from ``point`` meets its label: the nearest place on the label's edge."""
    x, y = (float(np.clip(p, c, c + s)) for p, c, s in zip(point, corner, size, strict=True))
    return x, y


def _candidates(point: FloatArray, size: FloatArray, bounds: tuple[float, float]) -> FloatArray:
    """Corners [c, 2] of the places that lie inside the bounds, the nearest first."""
    angles = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    turns = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rings = [point + radius * turns + size * (turns - 1) / 2 for radius in _RADII]
    corners = np.concatenate(rings)
    inside = ((corners >= 0) & (corners + size <= np.asarray(bounds))).all(axis=1)
    return corners[inside] if inside.any() else np.clip(corners[:1], 0, None)


def _costs(
    index: int, corners: FloatArray, placed: Sequence[FloatArray], points: FloatArray, sizes: FloatArray
) -> FloatArray:
    size = sizes[index]
    middle = np.clip(points[index], corners, corners + size)
    cost = np.linalg.norm(middle - points[index], axis=1)
    cost += _COVERS_POINT * _overlap(corners, size, points - _POINT, np.full_like(points, 2 * _POINT)).sum(axis=1)
    others = [other for other in range(len(placed)) if other != index]
    if not others:
        return cost
    near = points[others]
    gaps = np.clip(near, corners[:, None], corners[:, None] + size) - near
    cost += _CONFUSES * np.clip(1 - np.linalg.norm(gaps, axis=2) / _BELONGS, 0, None).sum(axis=1)
    where, extent = np.stack([placed[other] for other in others]), sizes[others]
    cost += _COVERS_NAME * _overlap(corners, size, where - 1, extent + 2).sum(axis=1)
    ends = np.clip(points[others], where, where + extent)
    for share in np.linspace(0.15, 0.85, 6):  # leader lines as beads, of the others and of this label
        bead = points[others] + share * (ends - points[others])
        cost += _COVERS_LINE * _overlap(corners, size, bead - 1, np.full_like(bead, 2.0)).sum(axis=1) / 2
        own = points[index] + share * (middle - points[index])
        cost += _COVERS_LINE * _overlap(own - 1, np.full(2, 2.0), where, extent).sum(axis=1) / 2
    return cost


def _covered(corners: FloatArray, size: FloatArray, points: FloatArray) -> FloatArray:
    """How many points are covered at each corner: [c]."""
    from_corner = points[None] - corners[:, None]
    inside = np.logical_and(from_corner >= 0, from_corner <= size)
    return np.logical_and(inside[..., 0], inside[..., 1]).sum(axis=1).astype(np.float64)


def _overlap(corners: FloatArray, size: FloatArray, others: FloatArray, extent: FloatArray) -> FloatArray:
    """1 plus the shared part of the smaller box where boxes overlap, else 0: [c, m]."""
    low = np.maximum(corners[:, None], others[None])
    high = np.minimum(corners[:, None] + size, others[None] + extent[None])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    smaller = np.minimum(size.prod(), extent.prod(axis=-1))
    return np.where(shared > 0, 1 + shared / smaller, 0.0)
