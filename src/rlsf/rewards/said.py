"""Prompts and completions as TRL hands them to reward functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError

#: Text, or messages.
Said = str | Sequence[dict[str, Any]]


def text_of(said: Said) -> str:
    """The text, or that of the last message."""
    return said if isinstance(said, str) else str(said[-1]["content"])


def readable(answer: AnswerConfig) -> AnswerConfig:
    """The format of answers, if they can be found in what was said alone; raises ``InputError`` else."""
    if answer.format == "elicited":
        raise InputError("answer.format=elicited asks the model to write on, which a reward cannot: choose another")
    return answer
