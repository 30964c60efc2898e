"""Matplotlib figures as inline SVG: small, deterministic, themed by the page, several to a page.

A figure is drawn in the exact colours of ``PALETTE``; each is then replaced by a CSS variable with the colour
as its fallback, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"

#: CSS variable -> colour in the light theme (what a viewer without the page's style sheet sees).
PALETTE = {
    "ink": "#1f2430",
    "muted": "#5b6270",
    "line": "#d9d5cb",
    "before": "#b4531f",
    "after": "#17678f",
    "right": "#1c7a5c",
    "wrong": "#a63a66",
}
INK, MUTED, LINE = PALETTE["ink"], PALETTE["muted"], PALETTE["line"]
#: The background of the light theme, and of pictures that are files of their own.
PAPER = "#fcfbf7"
BEFORE, AFTER = PALETTE["before"], PALETTE["after"]
RIGHT, WRONG = PALETTE["right"], PALETTE["wrong"]

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rlsf",
    "path.simplify": True,
    "path.simplify_threshold": 0.2,
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
}
_VARIABLES = {colour: f"var(--{name}, {colour})" for name, colour in PALETTE.items()}


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib settings for everything drawn and saved inside the block."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as one ``<svg>`` element whose ids begin with ``name`` and whose accessible name is ``title``.

    Must be called inside ``house_style``. The same figure gives the same string in every process.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _localise_ids(root, name)
    for element in root.iter():
        _theme(element)
    _label(root, f"{name}-title", title)
    _shorten(root)
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def standalone_svg(svg: str, *, halo: bool = False) -> str:
    """An inline drawing as a file of its own, with what it takes from the page: a font and a background.

    The background is that of the light theme in both: a picture does not learn which theme the page around it has.
    ``halo``: letters keep a rim of the background, for names that lines pass under.
    """
    opening, rest = svg.split(">", 1)
    rim = f"<style>text{{paint-order:stroke;stroke:{PAPER};stroke-width:2px}}</style>" if halo else ""
    paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    return f'{opening} font-family="system-ui, sans-serif">{rim}{paper}{rest}\n'


def _localise_ids(root: ElementTree.Element, name: str) -> None:
    """Prefix the ids that something refers to, and drop the rest."""
    used: set[str] = set()
    for element in root.iter():
        href = element.attrib.pop(f"{{{_XLINK}}}href", None)
        if href is not None:
            element.set("href", href)
        for value in element.attrib.values():
            used.update(re.findall(r"(?:^|url\()#([\w.-]+)", value))
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in used:
            element.set("id", f"{name}-{identity}")
        for key, value in element.attrib.items():
            if key != "id" and "#" in value:
                references = re.compile(r"(^#|url\(#)([\w.-]+)")
                element.set(key, references.sub(lambda match: f"{match[1]}{name}-{match[2]}", value))


def _theme(element: ElementTree.Element) -> None:
    style = element.get("style")
    if style is None:
        return
    style = re.sub(r"\s*font-family:[^;]*;?", "", style)
    for colour, variable in _VARIABLES.items():
        style = style.replace(colour, variable)
    element.set("style", style.strip())


def _label(root: ElementTree.Element, identity: str, title: str) -> None:
    """Size by the page, and a title for those who cannot see the drawing."""
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-labelledby", identity)
    element = ElementTree.Element(f"{{{_SVG}}}title", {"id": identity})
    element.text = title
    root.insert(0, element)


def _shorten(root: ElementTree.Element) -> None:
    """Round coordinates to a hundredth of a point, drop layout white space and the document-wide style."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}style":
                parent.remove(child)
    for element in root.iter():
        for key in ("d", "points", "x", "y", "transform"):
            value = element.get(key)
            if value is not None:
                element.set(key, re.sub(r"-?\d+\.\d+", _round, " ".join(value.split())))
        if element.text is not None and not element.text.strip():
            element.text = None
        element.tail = None
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")


def _round(match: re.Match[str]) -> str:
    text = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
