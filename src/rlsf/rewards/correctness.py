"""Whether the answer is right: the reward of reinforcement learning from verifiable rewards. It needs gold answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlsf.answers import equivalent
from rlsf.answers.config import AnswerConfig
from rlsf.rewards.said import Said, answer_said, gold_answers, readable


class Correctness:
    """1 for completions whose answer is equivalent to the gold one, else 0; those without an answer are wrong.

    Answers are found as ``answer`` says. Gold answers come from the column ``answer``; of a question with options (the
    column ``choices``) they are a letter or an option's own text, and so is the completion's answer. An answer whose
    equivalence could not be decided in time counts as wrong. The share of completions without an answer is logged as
    ``answers/missing``. Raises ``InputError`` where the data have no gold answers.
    """

    def __init__(self, answer: AnswerConfig | None = None) -> None:
        self.answer = readable(answer or AnswerConfig())

    def __call__(
        self,
        completions: Sequence[Said],
        answer: Sequence[object] | None = None,
        choices: Sequence[Sequence[str] | None] | None = None,
        **columns: Any,
    ) -> list[float]:
        """The reward of each completion, as TRL calls it."""
        gold = gold_answers(answer, self)
        options = [of_row or () for of_row in choices or [None] * len(completions)]
        found = [answer_said(said, self.answer, of_row) for said, of_row in zip(completions, options, strict=True)]
        if "log_metric" in columns and found:
            columns["log_metric"]("answers/missing", found.count(None) / len(found))
        return [
            float(said is not None and bool(equivalent(said, right, of_row)))
            for said, right, of_row in zip(found, gold, options, strict=True)
        ]
