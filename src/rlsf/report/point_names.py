"""Names beside the points of a figure; points in one place share a block of names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlsf.evaluation.groups import FloatArray
from rlsf.report.label_placement import anchor, place_labels
from rlsf.report.svg import MUTED

#: Size of the letters in points.
_LABEL = 8.5
#: Width of a letter and height of a line in parts of the font size, generous for fonts that the page may have.
_LETTER, _LINE_HEIGHT = 0.56, 1.15
#: Points nearer than this, in points (1/72 inch), cannot be told apart.
_SAME = 1.0
#: From this distance on a line joins a name to its point.
_APART = 9.0
_STRUNG = 5.0


@dataclass(frozen=True, slots=True)
class NamedPoint:
    """A mark in the coordinates of the axes' data, its name in the mark's colour, and a line leading to it."""

    name: str
    place: tuple[float, float]
    colour: str
    line: Sequence[tuple[float, float]] = ()


def name_points(figure: Figure, axes: Axes, points: Sequence[NamedPoint]) -> None:
    """Each point's name beside it, off all lines where there is room, joined by a thin line where it stands apart.

    Scales and limits of the axes must be final: they are kept as they are.
    """
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    width, height = (float(side) * 72 for side in figure.get_size_inches())
    box = axes.get_position()
    area = (box.width * width, box.height * height)
    to_axes = axes.transScale + axes.transLimits
    at = [(float(x), float(y)) for x, y in (to_axes.transform(one.place) * area for one in points)]
    beads = [bead for one in points if one.line for bead in _beads(to_axes.transform(one.line) * area)]
    blocks = _same_place(at)
    places = [at[block[0]] for block in blocks]
    sizes = [
        (_LABEL * _LETTER * max(len(points[one].name) for one in block), _LABEL * _LINE_HEIGHT * len(block))
        for block in blocks
    ]
    corners = place_labels(places, sizes, area, beads)
    for block, point, size, corner in zip(blocks, places, sizes, corners, strict=True):
        _lead(axes, point, anchor(point, corner, size), area)
        _write(axes, [points[one] for one in block], point, corner, size, area)


def _same_place(at: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Indices of points, those that lie on the first of a block together."""
    blocks: list[list[int]] = []
    for index, point in enumerate(at):
        own = next((block for block in blocks if np.hypot(*np.subtract(at[block[0]], point)) < _SAME), None)
        if own is None:
            blocks.append([index])
        else:
            own.append(index)
    return blocks


def _beads(line: FloatArray) -> list[tuple[float, float]]:
    """Places on a line [n, 2], ``_STRUNG`` apart or less."""
    found = []
    for start, end in pairwise(line):
        count = int(np.ceil(np.hypot(*(end - start)) / _STRUNG))
        found += [(float(x), float(y)) for x, y in np.linspace(start, end, count + 1)]
    return found


def _lead(axes: Axes, point: tuple[float, float], meets: tuple[float, float], area: tuple[float, float]) -> None:
    if np.hypot(meets[0] - point[0], meets[1] - point[1]) > _APART:
        x, y = ([point[i] / area[i], meets[i] / area[i]] for i in (0, 1))
        axes.plot(x, y, color=MUTED, linewidth=0.6, alpha=0.7, transform=axes.transAxes, zorder=2)


def _write(
    axes: Axes,
    block: Sequence[NamedPoint],
    point: tuple[float, float],
    corner: tuple[float, float],
    size: tuple[float, float],
    area: tuple[float, float],
) -> None:
    """The names of a block from the top down, on the side of its point, so that another font moves none away."""
    right = corner[0] + size[0] / 2 < point[0]
    x = (corner[0] + (size[0] if right else 0)) / area[0]
    for line, one in enumerate(block):
        axes.text(
            x,
            (corner[1] + size[1] - (line + 0.5) * size[1] / len(block)) / area[1],
            literal(one.name),
            transform=axes.transAxes,
            fontsize=_LABEL,
            color=one.colour,
            ha="right" if right else "left",
            va="center_baseline",
            zorder=4,
        )


def literal(text: str) -> str:
    """Text that Matplotlib takes as it is, dollar signs too."""
    return text.replace("$", r"\$")
