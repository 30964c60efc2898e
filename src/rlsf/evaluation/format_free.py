"""Format-free correctness: is the gold answer what the text ends up saying, whatever its format?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
#: A minus sign belongs to the number unless something stands right before it, as in 5-3.
_NUMBER = re.compile(rf"(?<![\w.,)\]])-{_DIGITS}|{_DIGITS}")
_WRAPPED = re.compile(r"\\(?:text|mathrm|boxed)\{([^{}]*)\}")
_DECORATION = re.compile(r"\*\*|[\s$\"'`]|\.$")


def _value(number: str) -> Decimal:
    return Decimal(number.replace(",", ""))


def last_number(text: str) -> Decimal | None:
    """The last number written in a text, thousands separators removed; None where there is none."""
    numbers = _NUMBER.findall(text)
    return _value(numbers[-1]) if numbers else None


def option_labels(choices: Sequence[str]) -> list[str]:
    """A, B, C, ... one for each option."""
    return [chr(ord("A") + index) for index in range(len(choices))]


def last_option(text: str, choices: Sequence[str]) -> str | None:
    """The label of the option named last: a label standing by itself (``B``, ``(b)``), else an option's own words."""
    labels = option_labels(choices)
    letters = "".join(labels)
    named = re.findall(rf"(?<![^\W_])([{letters}])(?![^\W_])|\(([{letters.lower()}])\)", text)
    if named:
        return "".join(named[-1]).upper()
    said = text.casefold()
    places = [(said.rfind(choice.casefold()) + len(choice), len(choice)) for choice in choices]
    places = [place if choice.casefold() in said else (-1, 0) for place, choice in zip(places, choices, strict=True)]
    return labels[places.index(max(places))] if max(places) != (-1, 0) else None


def bare(text: str) -> str:
    """A text without case, spaces, quotes, bold marks, dollar signs, a final full stop and LaTeX text wrapping."""
    return _DECORATION.sub("", _WRAPPED.sub(r"\1", text.strip())).casefold()


def says(text: str, answer: str | None, gold: str, choices: Sequence[str] = ()) -> bool:
    """Whether a completion ends up saying ``gold``, ignoring format.

    True where the extracted ``answer`` equals the gold answer (or the words of the gold option) but for case, spaces
    and wrapping; or where the last number, or for a question with options the last option, in the text is the gold
    one.
    """
    labels = option_labels(choices)
    accepted = {bare(gold)}
    label = gold.strip().upper()
    if label in labels:
        accepted.add(bare(choices[labels.index(label)]))
    if answer is not None and bare(answer) in accepted:
        return True
    if choices:
        return last_option(text, choices) == label
    wanted = gold.strip().lstrip("$").rstrip("%. ")
    return _NUMBER.fullmatch(wanted) is not None and last_number(text) == _value(wanted)
