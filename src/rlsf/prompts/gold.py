"""Reference answers in the comparable form that evaluation and rewards of right answers expect."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from rlsf.errors import InputError


class GoldAnswerError(InputError):
    """A question whose gold answer is wanted and is missing or cannot be read."""


def plain(value: Any) -> str | int:
    """Text as it is, integers as they are, other numbers without a trailing ``.0``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return number(value)
    if not isinstance(value, str):
        raise ValueError(f"the gold answer must be text or a number, found {type(value).__name__}")
    if not value.strip():
        raise ValueError("the gold answer is empty")
    return value.strip()


def number(value: Any) -> str:
    """``39.0`` as ``39``, ``"70,000"`` as ``70000``; raises ``ValueError`` where it is no finite number."""
    text = str(value).strip().replace(",", "").replace("$", "")
    try:
        parsed = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"the gold answer {value!r} is not a number") from None
    if not parsed.is_finite():
        raise ValueError(f"the gold answer {value!r} is not a finite number")
    if parsed == parsed.to_integral_value():
        return str(int(parsed))
    return format(parsed.normalize(), "f")


def after_hashes(value: Any) -> str:
    """The number after ``####``, as GSM8K ends its solutions."""
    _, hashes, answer = str(value).rpartition("####")
    if not hashes:
        raise ValueError("the gold answer has no '####'")
    return number(answer)


def zero_based(value: Any) -> str | int:
    """An index as an integer, also where a CSV file holds it as text."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else plain(value)
