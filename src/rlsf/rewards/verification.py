"""RISE: one policy learns to solve and to grade its own fresh solutions, in one batch (arXiv 2505.13445)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.rewards.agreement import MajorityAgreement
from rlsf.rewards.correctness import Correctness
from rlsf.rewards.grading import GRADES, GradeForm, GradingPrompt, parse_grade
from rlsf.rewards.said import Said, answer_said, readable, text_of


def solve_reward(answered: bool, right: bool) -> float:
    """+1 for a right answer, -0.5 for a wrong one, -1 for none (arXiv 2505.13445)."""
    if not answered:
        return -1.0
    return 1.0 if right else -0.5


def grade_reward(target: float, stated: float | None) -> float:
    """The same for a grade, which is right where it is ``target``, the solve reward of what was graded.

    Raises ``InputError`` for a target that is no grade.
    """
    if target not in GRADES:
        raise InputError(f"target={target!r} of a grading: solutions are graded {', '.join(map(str, GRADES))}")
    return solve_reward(stated is not None, stated == target)


class Verdicts:
    """Solve rewards of fresh completions, which are the targets of their gradings.

    ``verdict="gold"``: right is what is equivalent to the gold answer, as published; an equivalence that could not be
    decided in time counts as wrong. ``verdict="agreement"`` needs no labels: right is what most of the group answers,
    ties to the answer that came first. That is our substitute, and teaches to grade by how common an answer is.
    """

    def __init__(
        self,
        *,
        num_generations: int,
        verdict: Literal["gold", "agreement"] = "gold",
        answer: AnswerConfig | None = None,
    ) -> None:
        if verdict not in ("gold", "agreement"):
            raise InputError(f"verdict={verdict!r}: use gold or agreement")
        self.num_generations, self.verdict = num_generations, verdict
        self.answer = readable(answer or AnswerConfig())

    def __call__(self, rows: Sequence[Mapping[str, Any]], completions: Sequence[Said]) -> list[float]:
        """The solve reward of each completion; groups of ``num_generations`` rows stand together.

        Rows hold ``answer`` (for ``gold``) and, for questions with options, ``choices``. Raises ``InputError`` where a
        row has no gold answer.
        """
        choices = [row.get("choices") for row in rows]
        if self.verdict == "agreement":
            groups = [str(place // self.num_generations) for place in range(len(rows))]
            agreement = MajorityAgreement(num_generations=self.num_generations, answer=self.answer)
            right = agreement(groups, completions, choices)
        else:
            right = Correctness(self.answer)(completions, [self._gold(row) for row in rows], choices)
        return [
            solve_reward(answer_said(said, self.answer, of_row) is not None, bool(is_right))
            for said, of_row, is_right in zip(completions, choices, right, strict=True)
        ]

    def _gold(self, row: Mapping[str, Any]) -> object:
        if row.get("answer") is None:
            raise InputError(
                f"verdict=gold, and prompt {row.get('prompt_id')!r} has no gold answer: give the training data a column"
                " `answer`, or use verdict=agreement"
            )
        return row["answer"]


class SelfVerification:
    """The reward of solutions and of their gradings in one batch (arXiv 2505.13445).

    Columns: ``kind`` is ``solve`` or ``grade``; ``verdict`` is the solve reward of a solution, which the trainer has
    computed when it chose what to grade; ``target`` is the grade that a grading should state, in ``form``. They come
    from ``rlsf.training.verification.MixedVerification``.

    Logs ``verification/solve_accuracy``, ``verification/grade_accuracy``, ``verification/missing_grades``, and the
    confusion of grades as shares of all gradings, ``verification/target_1/stated_-0.5``: always stating 1 earns
    a - 0.5 (1 - a) with solve accuracy a, so collapse to a constant grade shows there first.
    """

    def __init__(self, *, form: GradeForm = "boxed") -> None:
        self.form: GradeForm = GradingPrompt(form=form).form

    def __call__(
        self,
        completions: Sequence[Said],
        kind: Sequence[str] | None = None,
        verdict: Sequence[float | None] | None = None,
        target: Sequence[float | None] | None = None,
        **columns: Any,
    ) -> list[float]:
        """The reward of each completion, as TRL calls it.

        Raises ``InputError`` where the trainer does not say what is a solution and what a grading.
        """
        if kind is None or verdict is None or target is None:
            raise InputError(
                "SelfVerification needs the columns kind, verdict and target, which this trainer does not write: mix"
                " rlsf.training.verification.MixedVerification into it"
            )
        rewards: list[float] = []
        gradings: Counter[tuple[float, float | None]] = Counter()
        for said, of_kind, solved, wanted in zip(completions, kind, verdict, target, strict=True):
            if of_kind == "solve" and solved is not None:
                rewards.append(solved)
            elif of_kind == "grade" and wanted is not None:
                stated = parse_grade(text_of(said), self.form)
                gradings[wanted, stated] += 1
                rewards.append(grade_reward(wanted, stated))
            else:
                raise InputError(
                    f"a row of kind={of_kind!r} with verdict={solved!r} and target={wanted!r}: a row is `solve` with a"
                    " verdict, or `grade` with a target"
                )
        if "log_metric" in columns:
            solved_rewards = [reward for reward, of_kind in zip(rewards, kind, strict=True) if of_kind == "solve"]
            for name, value in {**_of_solutions(solved_rewards), **_of_gradings(gradings)}.items():
                columns["log_metric"](f"verification/{name}", value)
        return rewards


def _of_solutions(rewards: Sequence[float]) -> dict[str, float]:
    return {"solve_accuracy": sum(reward == 1.0 for reward in rewards) / len(rewards)} if rewards else {}


def _of_gradings(gradings: Counter[tuple[float, float | None]]) -> dict[str, float]:
    """Metrics of how often each pair of (target, stated grade) occurred."""
    total = gradings.total()
    if not total:
        return {}
    return {
        "grade_accuracy": sum(gradings[grade, grade] for grade in GRADES) / total,
        "missing_grades": sum(gradings[grade, None] for grade in GRADES) / total,
        **{
            f"target_{wanted:g}/stated_{stated:g}": gradings[wanted, stated] / total
            for wanted in GRADES
            for stated in GRADES
        },
    }
