"""A trace on a terminal: each token on a colour that says how probable it was, or marks in plain text.

What a model wrote never reaches the terminal as a command: control characters are named, markup is not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.style import Style
from rich.text import Text

from rlsf.invisible import safe

#: Ten steps of cividis (Nuñez, Anderton and Renslow 2018, doi 10.1371/journal.pone.0199239), from sure to unsure:
#: lightness grows evenly for people with and without colour vision deficiency. Every token has its own ground, so that
#: the scale reads the same on dark and on light terminals.
SCALE = (
    *("#00224e", "#123570", "#3b496c", "#575d6d", "#707173"),
    *("#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"),
)
#: From this step on the ground is light, and black is read more easily than white.
_LIGHT = 5
#: In plain text, tokens less probable than this are marked.
MARKED_BELOW = 0.5
Span = tuple[int, int] | None


def one_line(text: str) -> str:
    """``safe`` on a single line."""
    return safe(" ".join(text.split()))


def in_colour(console: Console) -> bool:
    """Whether the console shows colours: not in a pipe or a file, nor where NO_COLOR is set."""
    return console.is_terminal and console.color_system is not None and not console.no_color


def shade(probability: float) -> Style:
    """The ground for a token of this probability, in steps of a tenth; none where it is not known."""
    if math.isnan(probability):
        return Style()
    step = min(9, max(0, math.floor((1 - probability) * 10 + 1e-6)))
    return Style(color="#000000" if step >= _LIGHT else "#ffffff", bgcolor=SCALE[step])


def shaded(pieces: Sequence[str], probability: Sequence[float], answer: Span) -> Text:
    """The trace in colour, its answer, the half-open range of tokens, underlined."""
    text, in_answer = Text(), Style(underline=True, bold=True)
    for place, piece in enumerate(_trimmed(pieces)):
        inside = answer is not None and answer[0] <= place < answer[1]
        ground = shade(float(probability[place]))
        text.append(safe(piece), ground + in_answer if inside else ground)
    return text


def marked(pieces: Sequence[str], probability: Sequence[float], answer: Span) -> str:
    """The trace in plain text: ``[[answer]]``, and ``{31 %}`` behind tokens less probable than ``MARKED_BELOW``."""
    parts = []
    for place, piece in enumerate(_trimmed(pieces)):
        part = safe(piece)
        if part.strip() and probability[place] < MARKED_BELOW:
            bare = part.rstrip()
            part = f"{bare}{{{100 * float(probability[place]):.0f} %}}{part[len(bare) :]}"
        if answer is not None and place == answer[0]:
            bare = part.lstrip()
            part = f"{part[: len(part) - len(bare)]}[[{bare}"
        parts.append(f"{part}]]" if answer is not None and place == answer[1] - 1 else part)
    return "".join(parts).rstrip()


def legend(colour: bool, answered: bool) -> Text:
    """One line that explains the colours or the marks."""
    if not colour:
        meaning = f"{{31 %}}: how probable the token before it was, where that is less than {100 * MARKED_BELOW:.0f} %"
        return Text(meaning + ("; [[...]]: the answer" if answered else ""))
    text = Text()
    text.append("sure ", "dim")
    for step in range(10):
        text.append("  ", shade(1 - step / 10))
    text.append(" unsure", "dim")
    if answered:
        text.append("   ")
        text.append("underlined", "underline")
        text.append(" the answer", "dim")
    return text


def _trimmed(pieces: Sequence[str]) -> list[str]:
    """The pieces without the space that opens and closes a trace; there are as many as before."""
    trimmed = list(pieces)
    for places, strip in ((range(len(trimmed)), str.lstrip), (range(len(trimmed) - 1, -1, -1), str.rstrip)):
        for place in places:
            trimmed[place] = strip(trimmed[place])
            if trimmed[place]:
                break
    return trimmed
