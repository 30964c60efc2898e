"""A prompt: one question as given, before any model's template."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question.

    ``gold`` is the reference answer, read by evaluation alone: nothing on the road from prompts to a trained
    policy may look at it.
    """

    id: str
    question: str
    choices: tuple[str, ...] = ()
    gold: str | None = None

    def without_gold(self) -> Prompt:
        """The same question with the reference answer removed."""
        return Prompt(self.id, self.question, self.choices)
