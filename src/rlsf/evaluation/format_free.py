"""Format-free correctness: is the gold answer what a completion ends up saying, whatever its format?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlsf.answers.choice import find_choices
from rlsf.answers.number import canonical_number, find_numbers

_WRAPPED = re.compile(r"\\(?:text|mathrm|boxed)\{([^{}]*)\}")
_DECORATION = re.compile(r"\*\*|[\s$\"'`]|\.$")


def last_reading(text: str, gold: str, choices: Sequence[str] = ()) -> str | None:
    """The answer a reader would take from a text: its last option, or its last number where ``gold`` is one; or None.

    Tags, boxes and patterns that the answer format asks for are not looked for.
    """
    if choices:
        found = find_choices(text, choices)
    else:
        found = list(find_numbers(text)) if canonical_number(gold) is not None else []
    return found[-1].answer if found else None


def bare(text: str) -> str:
    """A text without case, spaces, quotes, bold marks, dollar signs, a final full stop and LaTeX text wrapping."""
    return _DECORATION.sub("", _WRAPPED.sub(r"\1", text.strip())).casefold()


def same_but_for_format(answer: str, gold: str) -> bool:
    """Whether two answers differ in case, spaces and wrapping alone."""
    return bare(answer) == bare(gold)
