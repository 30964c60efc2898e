"""What the turns of a dialogue are worth: accuracy turn by turn, the votes over them, and answers that flip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from rlsf.errors import InputError
from rlsf.evaluation.modes import Choice, Grade, Turns, Verdicts
from rlsf.prompts.prompt import Prompt


@dataclass(frozen=True, slots=True)
class TurnVerdicts:
    """Whether the answer of each turn of one question was right, and what the votes over them settled on."""

    right: tuple[bool, ...]
    majority: bool
    weighted: bool


def judge_turns(question: Prompt, turns: Turns, grade: Grade) -> TurnVerdicts:
    """The verdicts on one question; no answer and an undecided grade are wrong.

    Raises ``InputError`` for a question without a gold answer.
    """
    if question.gold is None:
        raise InputError(f"question {question.id!r} has no gold answer: evaluation needs one for every question")
    verdict = Verdicts(question.gold, question.choices, grade)

    def right(choice: Choice) -> bool:
        answer = choice.trace.answer
        return answer is not None and bool(verdict.of(answer.text))

    return TurnVerdicts(
        right=tuple(right(Choice(trace, 0.0)) for trace in turns.traces),
        majority=right(replace(turns, weighted=False).choose(verdict.same)),
        weighted=right(replace(turns, weighted=True).choose(verdict.same)),
    )


def summarise_turns(verdicts: Sequence[TurnVerdicts]) -> dict[str, Any]:
    """Figures over questions with k turns each, under the names of arXiv 2407.18219.

    ``accuracy``: of each turn, the first of which is m1@t1. ``majority`` (m1@tk) and ``weighted``: of the votes.
    ``oracle`` (p1@tk): share of questions with a right turn, which only one who knows the answer could pick: a
    diagnosis, no method. ``right_to_wrong`` and ``wrong_to_right``: questions whose answer flips from each turn to the
    next. Raises ``InputError`` for no questions, or different numbers of turns.
    """
    lengths = {len(one.right) for one in verdicts}
    if len(lengths) != 1:
        raise InputError(f"{len(verdicts)} questions with turns of {sorted(lengths)} have no figures: ask all alike")
    count = len(verdicts)
    steps = [[(before, after) for before, after in pairwise(one.right)] for one in verdicts]
    by_step = list(zip(*steps, strict=True))
    return {
        "questions": count,
        "turns": lengths.pop(),
        "accuracy": [sum(turn) / count for turn in zip(*(one.right for one in verdicts), strict=True)],
        "majority": sum(one.majority for one in verdicts) / count,
        "weighted": sum(one.weighted for one in verdicts) / count,
        "oracle": sum(any(one.right) for one in verdicts) / count,
        "right_to_wrong": [step.count((True, False)) for step in by_step],
        "wrong_to_right": [step.count((False, True)) for step in by_step],
    }
