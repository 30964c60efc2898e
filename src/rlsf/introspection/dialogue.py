"""A dialogue of a policy with itself: the question, its answers so far, and the same words after each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rlsf.prompts.prompt import Prompt, Turn
from rlsf.prompts.rendering import choices_text


def reply(prompt: Prompt, feedback: str) -> str:
    """``feedback`` with the question, and its options, in the place of ``{question}``."""
    asked = "\n".join(filter(None, (prompt.question, choices_text(prompt.choices))))
    # No str.format: questions and feedback may hold braces of their own.
    return feedback.replace("{question}", asked)


def next_turn(
    prompt: Prompt, answers: Sequence[str], feedback: str, window: int, fits: Callable[[Prompt], bool]
) -> Prompt:
    """What the policy sees in its next turn: the question, then its last ``window`` answers, each with the feedback.

    State (question, y, f, ..., y, f) of arXiv 2407.18219. Where that does not fit, the oldest answers are left out; in
    the end the question stands alone, whether or not it fits.
    """
    said = reply(prompt, feedback)
    turns = tuple(Turn(answer, said) for answer in answers[-window:])
    while turns and not fits(replace(prompt, turns=turns)):
        turns = turns[1:]
    return replace(prompt, turns=turns)
