"""One spelling for each answer, so that most comparisons are comparisons of text."""

from __future__ import annotations

import re

from rlsf.answers.number import canonical_number

_WRAPPER = re.compile(r"\$(?P<math>[^$]+)\$|\\\((?P<inline>.+)\\\)|\\(?:text|textbf|mathrm|mathbf)\{(?P<text>[^{}]+)\}")
_LETTER = re.compile(r"[(\[]?([A-Za-z])[)\].:]+")


def canonical(text: str) -> str:
    r"""The canonical form of an answer: ``"$1,234.00"`` is ``"1234"``, ``"(b)"`` is ``"B"``, ``"$\text{no}$"`` is "no".

    A number loses its thousands separators, currency and percent sign and trailing zeros; a letter marked as an
    option is upper-case; anything else loses outer mathematics and text mark-up, a final full stop and runs of spaces.
    """
    text = " ".join(text.split())
    while wrapper := _WRAPPER.fullmatch(text.removesuffix(".")):
        text = (wrapper[wrapper.lastgroup or 0]).strip()
    number = canonical_number(text)
    if number is not None:
        return number
    if letter := _LETTER.fullmatch(text):
        return letter[1].upper()
    return text.removesuffix(".") or text
