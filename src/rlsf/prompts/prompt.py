"""A prompt: one question as given, and what was said on it so far, before any model's template."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple


class Turn(NamedTuple):
    """An earlier answer, and what was then said to it; the next answer is asked for."""

    answer: str
    reply: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question.

    ``gold`` is the reference answer, read by evaluation alone: nothing on the road from prompts to a trained
    policy may look at it, but for recipes that learn from labels. ``turns`` is the dialogue so far, oldest turn first.
    """

    id: str
    question: str
    choices: tuple[str, ...] = ()
    gold: str | None = None
    turns: tuple[Turn, ...] = ()

    def without_gold(self) -> Prompt:
        """The same question with the reference answer removed."""
        return replace(self, gold=None)
