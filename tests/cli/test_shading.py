"""Colours and marks of a trace: readable, ordered, and deaf to what a model writes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from rich.console import Console
from rich.text import Text

from rlsf.cli.shading import SCALE, legend, marked, safe, shade, shaded

#: A command to the terminal, one that C1 spells, an end of line that overwrites, and a reversal of writing direction.
HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b31m\r\u202e[bold red]no[/]"


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance."""
    channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot((0.2126, 0.7152, 0.0722), channels))


def printed(text: Text, *, colour: bool) -> str:
    console = Console(force_terminal=colour, color_system="truecolor" if colour else None, width=200)
    with console.capture() as caught:
        console.print(text)
    return caught.get()


def test_the_scale_is_cividis_and_grows_lighter() -> None:
    assert [to_hex(colormaps["cividis"](x)) for x in np.linspace(0, 1, 10)] == list(SCALE)
    assert (np.diff([luminance(colour) for colour in SCALE]) > 0).all()


@pytest.mark.parametrize("probability", np.linspace(0, 1, 11))
def test_text_stands_out_from_its_ground(probability: float) -> None:
    style = shade(probability)
    assert style.color is not None
    assert style.bgcolor is not None
    light, dark = sorted((luminance(colour.name) for colour in (style.color, style.bgcolor)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5, "WCAG AA"


def test_less_probable_tokens_are_lighter_and_unknown_ones_bare() -> None:
    grounds = [shade(probability).bgcolor for probability in np.linspace(1, 0, 200)]
    steps = [SCALE.index(ground.name) for ground in grounds if ground is not None]
    assert steps == sorted(steps)
    assert {*steps} == {*range(10)}
    assert shade(math.nan).bgcolor is None


@given(st.text())
def test_no_control_character_of_a_model_reaches_the_terminal(text: str) -> None:
    shown = shaded([text, HOSTILE], [0.9, 0.2], (1, 2))
    assert not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in shown.plain)
    assert "\u202e" not in shown.plain
    assert printed(shown, colour=False).count("\x1b") == 0
    assert "[bold red]no[/]" in shown.plain


def test_control_characters_are_named() -> None:
    assert safe("a\x1b[0m\tb\n\x9b") == "a⟨U+001B⟩[0m\tb\n⟨U+009B⟩"


def test_only_our_own_escapes_are_printed() -> None:
    shown = printed(shaded([HOSTILE], [0.5], (0, 1)), colour=True)
    assert {part.partition("m")[0] for part in shown.split("\x1b[")[1:]} == {"1;4;38;2;0;0;0;48;2;138;134;120", "0"}


def test_the_answer_is_underlined() -> None:
    text = shaded([" It", " is", " 1", "2", "."], [0.9] * 5, (2, 4))
    assert text.plain == "It is 12."
    underlined = "".join(text.plain[span.start : span.end] for span in text.spans if "underline" in str(span.style))
    assert underlined == " 12"


def test_marks_in_plain_text() -> None:
    pieces, probability = [" It", " is", " 1", "2", ".", "", "\n"], [0.071, 0.9, 0.49, 0.5, math.nan, 0.1, 0.1]
    assert marked(pieces, probability, (2, 4)) == "It{7 %} is [[1{49 %}2]]."
    assert marked(pieces, probability, None) == "It{7 %} is 1{49 %}2."
    assert marked([], [], None) == ""
    assert marked([" 12 "], [0.2], (0, 1)) == "[[12{20 %}]]"


def test_the_legend_explains_what_is_there() -> None:
    assert legend(colour=False, answered=False).plain.endswith("less than 50 %")
    assert "[[...]]: the answer" in legend(colour=False, answered=True).plain
    assert legend(colour=True, answered=True).plain == f"sure {' ' * 20} unsure   underlined the answer"
