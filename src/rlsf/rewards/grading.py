"""How a policy is asked to grade a solution, and the grade that it states (RISE, arXiv 2505.13445)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rlsf.answers.config import AnswerConfig
from rlsf.answers.find import choose_occurrence
from rlsf.errors import InputError

#: The three levels: right, answered but wrong, no answer.
GRADES = (1.0, -0.5, -1.0)
#: ``boxed``: the last ``\boxed{1}``, as published. ``line``: the last line ``Grade: 1.0``, for small models.
GradeForm = Literal["boxed", "line"]

_LINE = r"(?im)^[ \t*_]*grade[ \t*_]*:[ \t*_]*([-−]?[0-9]+(?:\.[0-9]+)?)[ \t*_.]*$"
_FORMATS: dict[GradeForm, AnswerConfig] = {
    "boxed": AnswerConfig(format="boxed"),
    "line": AnswerConfig(format="regex", pattern=_LINE),
}
_CLOSINGS: dict[GradeForm, str] = {
    "boxed": r"your rating in a box: \boxed{1}, \boxed{-0.5} or \boxed{-1}",
    "line": "a line that reads Grade: 1.0, Grade: -0.5 or Grade: -1.0",
}
_BY_CANONICAL_FORM = {f"{grade:g}": grade for grade in GRADES}

#: Templates by name; of one's own, any text with {question} and {solution}, and {form} where the grade's form belongs.
TEMPLATES = {
    "full": """\
Somebody was asked a question. Judge the response below by its final answer, on three levels:
1.0: there is a final answer, and it is right.
-0.5: there is a final answer, and it is wrong.
-1.0: there is no final answer in the form that was asked for.

=== Question ===
{question}
=== End of the question ===

=== Response ===
{solution}
=== End of the response ===

Check the response in a few sentences: follow its steps, and look for its first mistake. Then end with {form}.""",
    "terse": """\
Question: {question}

Response: {solution}

Is its answer right (1.0), wrong (-0.5) or missing (-1.0)? End with {form}.""",
}
#: Characters of a solution that is longer than any, for the longest note of what was cut out.
_LONG_SOLUTION = 100_000
_PLACEHOLDER = re.compile(r"\{(question|solution|form)\}")


def parse_grade(text: str, form: GradeForm = "boxed") -> float | None:
    r"""The last grade that ``text`` states in ``form``, in any notation (``1``, ``1.0``, ``-.5``); None without one.

    A box or line that holds something else states no grade; the published code rewards such a box as a wrong grade.
    """
    found = choose_occurrence(text, _FORMATS[form])
    return None if found is None else _BY_CANONICAL_FORM.get(found.answer)


@dataclass(frozen=True, slots=True)
class GradingPrompt:
    """The question that asks for the grade of a solution.

    ``template``: ``full`` states the three levels and asks for a short analysis, ``terse`` is for small models, and
    any other text is the template itself. Raises ``InputError`` for an unknown form, and for a template without
    {question} or {solution}.
    """

    template: str = "full"
    form: GradeForm = "boxed"

    def __post_init__(self) -> None:
        if self.form not in _FORMATS:
            raise InputError(f"form={self.form!r} of a grade: use boxed or line")
        missing = [f"{{{name}}}" for name in ("question", "solution") if f"{{{name}}}" not in self._template]
        if missing:
            raise InputError(
                f"the grading template {self.template[:40]!r} has no {' and no '.join(missing)}: write it where the"
                f" text belongs, or use {' or '.join(TEMPLATES)}"
            )

    @property
    def _template(self) -> str:
        return TEMPLATES.get(self.template, self.template)

    def text(self, question: str, solution: str) -> str:
        """The prompt's text, in full length."""
        values = {"question": question, "solution": solution, "form": _CLOSINGS[self.form]}
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self._template)

    def token_ids(
        self, question: str, solution: str, render: Callable[[str], list[int]], limit: int | None = None
    ) -> list[int]:
        """Ids of the prompt, at most ``limit``: what is too long is cut out of the middle of the solution.

        So the instruction that closes the prompt always stays; the published code cuts it off. ``render`` turns the
        text into the ids that a model continues. Raises ``InputError`` where the prompt is too long without any
        solution.
        """

        def rendered(kept: int) -> list[int]:
            return render(self.text(question, shortened(solution, kept)))

        best = rendered(len(solution))
        if limit is None or len(best) <= limit:
            return best
        best = self._within(limit, rendered(0), question)
        low, high = 0, len(solution)  # characters that fit, and that do not
        while high - low > 1:
            middle = (low + high) // 2
            ids = rendered(middle)
            if len(ids) <= limit:
                low, best = middle, ids
            else:
                high = middle
        return best

    def check_room(self, question: str, render: Callable[[str], list[int]], limit: int | None) -> None:
        """Raise ``InputError`` where the prompt is too long however much of a solution is cut out."""
        if limit is not None:
            self._within(limit, self.without_solution(question, render), question)

    def without_solution(self, question: str, render: Callable[[str], list[int]]) -> list[int]:
        """Ids of the prompt with all of a long solution cut out."""
        return render(self.text(question, shortened("?" * _LONG_SOLUTION, 0)))

    def _within(self, limit: int, ids: list[int], question: str) -> list[int]:
        if len(ids) > limit:
            raise InputError(
                f"the question {question[:40]!r} makes a grading prompt of {len(ids)} tokens without any solution, and"
                f" the context has room for {limit}: leave out such questions, use the terse template, or lower"
                " max_completion_length"
            )
        return ids


def shortened(solution: str, kept: int) -> str:
    """The first and the last half of ``kept`` characters of a solution, with a note between them of what is missing."""
    if kept >= len(solution):
        return solution
    head, tail = solution[: kept - kept // 2], solution[len(solution) - kept // 2 :]
    return f"{head} [... {len(solution) - kept} characters left out ...] {tail}"
