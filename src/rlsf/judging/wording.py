"""What a model is asked when it judges: the wording is ours, the paper prints none that could be read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlsf.judging.config import JudgeConfig
from rlsf.judging.judgement import Case
from rlsf.prompts.rendering import choices_text

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Wording:
    """The parts of which questions to a judge are made, in the order in which they come."""

    opening: str
    attempts: str
    attempt: str
    reasoning: str
    about_reasoning: str
    answer: str
    about_answer: str
    before: str
    statement: str
    about_statement: str


WORDINGS = {
    "full": Wording(
        opening="You check work on a question.\n\nQuestion:\n{question}\n",
        attempts="\nAttempts at the question, any of which may be wrong:\n",
        attempt="\nAttempt {number}:\n{reasoning}\n",
        reasoning="\nThe selected reasoning:\n{reasoning}\n",
        about_reasoning="\nIs the selected reasoning correct in every step and in its result? Say {true} or {false}."
        "\nVerdict:",
        answer="\nThe proposed answer: {answer}\n",
        about_answer="\nIs the proposed answer the correct one to the question? Say {true} or {false}.\nVerdict:",
        before="\nThe reasoning so far:\n{before}\n",
        statement="\nThe selected statement, which comes next:\n{statement}\n",
        about_statement="\nIs the selected statement correct? Say {true} or {false}.\nVerdict:",
    ),
    "terse": Wording(
        opening="Q: {question}\n",
        attempts="",
        attempt="A: {reasoning}\n",
        reasoning="\nA: {reasoning}\n",
        about_reasoning="{true} or {false}?",
        answer="{answer}: ",
        about_answer="{true} or {false}?",
        before="A: {before}\n",
        statement="{statement}\n",
        about_statement="{true} or {false}?",
    ),
}


class Questions:
    """The texts that ask a model to judge the reasonings of one case.

    Those about whole reasonings of a case begin alike, attempts included, up to the selected one: what they share can
    be read once.
    """

    def __init__(self, config: JudgeConfig, case: Case) -> None:
        self._wording = WORDINGS[config.template]
        self._words = {"true": config.true_word.strip(), "false": config.false_word.strip()}
        options = choices_text(case.choices)
        asked = f"{case.question.strip()}\n{options}" if options else case.question.strip()
        self._case, self._opening = case, self._fill(self._wording.opening, question=asked)

    def about_reasoning(self, number: int, attempts: Sequence[int]) -> str:
        """Whether reasoning ``number`` is correct, after those of ``attempts``, in this order."""
        listed = "".join(
            self._fill(self._wording.attempt, number=str(place), reasoning=self._reasoning(attempt))
            for place, attempt in enumerate(attempts, start=1)
        )
        heading = self._wording.attempts if listed else ""
        selected = self._fill(self._wording.reasoning, reasoning=self._reasoning(number))
        return self._opening + heading + listed + selected + self._fill(self._wording.about_reasoning)

    def about_answer(self, number: int, answer: str) -> str:
        """Whether ``answer`` is correct, given reasoning ``number``."""
        selected = self._fill(self._wording.reasoning, reasoning=self._reasoning(number))
        proposed = self._fill(self._wording.answer, answer=answer)
        return self._opening + selected + proposed + self._fill(self._wording.about_answer)

    def about_statement(self, before: str, statement: str) -> str:
        """Whether ``statement`` is correct, given what came before it in its reasoning."""
        so_far = self._fill(self._wording.before, before=before.strip()) if before.strip() else ""
        selected = self._fill(self._wording.statement, statement=statement.strip())
        return self._opening + so_far + selected + self._fill(self._wording.about_statement)

    def _reasoning(self, number: int) -> str:
        return self._case.reasonings[number].strip()

    def _fill(self, part: str, **values: str) -> str:
        # One pass and no str.format: questions and reasonings may hold braces of their own (LaTeX, JSON).
        known = {**self._words, **values}
        return _PLACEHOLDER.sub(lambda match: known[match[1]], part)
