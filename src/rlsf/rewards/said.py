"""Prompts and completions as TRL hands them to reward functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlsf.answers.config import AnswerConfig
from rlsf.answers.find import choose_occurrence
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


def answer_said(said: Said, answer: AnswerConfig, choices: Sequence[str] | None = None) -> str | None:
    """The answer of what was said, in the format of ``answer``; None where there is none."""
    found = choose_occurrence(text_of(said), answer, choices or ())
    return None if found is None else found.answer


def gold_answers(column: Sequence[object] | None, reward: object) -> list[str]:
    """The column ``answer`` as text; raises ``InputError``, naming the reward, where it or a row of it is missing."""
    name = type(reward).__name__
    if column is None:
        raise InputError(f"{name} learns from gold answers: give the training data a column `answer`")
    if any(gold is None or not str(gold).strip() for gold in column):
        raise InputError(
            f"{name} learns from gold answers: the column `answer` is empty in some rows, fill or drop them"
        )
    return [str(gold) for gold in column]
