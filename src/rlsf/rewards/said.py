"""Prompts and completions as TRL hands them to reward functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Text, or messages.
Said = str | Sequence[dict[str, Any]]


def text_of(said: Said) -> str:
    """The text, or that of the last message."""
    return said if isinstance(said, str) else str(said[-1]["content"])
