"""Answer options in the forms in which data sets keep them, and the letter of the right one."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")
_LETTERED_TEXT = re.compile(r"\s*\(?([A-Z])\s*[).:]\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Choices:
    """Options in order, with the labels of the source where it has any. Rendered, they are A, B, C..."""

    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


def read_choices(value: Any) -> Choices:
    """Options from a list of texts, ``[{"label", "text"}, ...]``, ``{"label": [...], "text": [...]}``,
    ``{"A": text, ...}`` or any of these as a JSON string; null and empty mean none.

    Raises ``ValueError`` with a reason for anything else, for a single option and for more than 26.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except json.JSONDecodeError as error:
            raise ValueError(f"the choices are not a JSON array ({error.msg})") from error
    if not value:
        return Choices()
    choices = _from_mapping(value) if isinstance(value, Mapping) else _from_list(value)
    if not 2 <= len(choices.texts) <= len(string.ascii_uppercase):
        raise ValueError(f"{len(choices.texts)} choices: give from 2 to {len(string.ascii_uppercase)}")
    if choices.labels and len(set(choices.labels)) != len(choices.texts):
        raise ValueError(f"the choices need labels that differ, found {', '.join(choices.labels)}")
    return choices


def _from_mapping(value: Mapping[str, Any]) -> Choices:
    if isinstance(value.get("text"), list):
        labels = value.get("label") or []
        if labels and len(labels) != len(value["text"]):
            raise ValueError(f"{len(labels)} labels for {len(value['text'])} choices")
        return Choices(tuple(map(_text, value["text"])), tuple(map(str, labels)))
    return Choices(tuple(map(_text, value.values())), tuple(value))


def _from_list(value: Any) -> Choices:
    if not isinstance(value, list):
        raise ValueError(f"the choices must be a list, found {type(value).__name__}")
    if not all(isinstance(element, Mapping) for element in value):
        return Choices(tuple(map(_text, value)))
    if not all("text" in element for element in value):
        raise ValueError("every choice needs a 'text'")
    labels = tuple(str(element["label"]) for element in value if "label" in element)
    return Choices(tuple(_text(element["text"]) for element in value), labels)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"a choice must be text, found {type(value).__name__}")
    return str(value).strip()


def strip_letters(choices: Choices) -> Choices:
    """``"A)21", "B)30"`` as options 21 and 30, provided that all of them carry their letter."""
    matches = [_LETTERED_TEXT.fullmatch(text) for text in choices.texts]
    letters = string.ascii_uppercase[: len(matches)]
    if all(match and match[1] == letter for match, letter in zip(matches, letters, strict=True)):
        return Choices(tuple(match[2] for match in matches if match), tuple(letters))
    return choices


def choice_letter(gold: Any, choices: Choices) -> str:
    """The letter, by position, of the option that ``gold`` names.

    ``gold`` is a label of the source, a zero-based index (integers only), a letter, or an option's own text, tried in
    this order; raises ``ValueError`` where it is none.
    """
    text = str(gold).strip()
    letters = string.ascii_uppercase[: len(choices.texts)]
    if text in choices.labels:
        return letters[choices.labels.index(text)]
    if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < len(letters):
        return letters[gold]
    if (match := _LETTER.fullmatch(text)) and match[1] in letters:
        return match[1]
    if choices.texts.count(text) == 1:
        return letters[choices.texts.index(text)]
    if match and match[1].upper() in letters:
        return match[1].upper()
    raise ValueError(f"the gold answer {text!r} names none of the {len(letters)} choices")
