"""Branches of the bundled model, graded: what the phenomenon of CoT-decoding looks like on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsf.answers import TokenText, find_answer
from rlsf.answers.config import AnswerConfig
from rlsf.confidence import get_signal
from rlsf.demo.solutions import Style, style_of
from rlsf.demo.tasks import Problem
from rlsf.evaluation import auroc, ece
from rlsf.models.config import ModelConfig
from rlsf.models.loading import load_model
from rlsf.models.tokenizer import load_tokenizer
from rlsf.prompts.config import RenderConfig
from rlsf.prompts.rendering import render
from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.traces import Trace

BRANCHES = 10
SIGNALS = ("answer_disparity", "trace_confidence")
#: A wrong answer above this confidence counts as confidently wrong.
SURE = 0.8


@dataclass(frozen=True, slots=True)
class Branch:
    """One graded trace; ``confidences`` are those of ``SIGNALS``, 0 without an answer."""

    first_token: str
    style: Style
    correct: bool
    confidences: tuple[float, ...]
    tokens: int
    truncated: bool

    @property
    def confidence(self) -> float:
        """Mean probability disparity of the answer (arXiv 2507.21931)."""
        return self.confidences[0]


def _grade(trace: Trace, problem: Problem, token_text: TokenText) -> Branch:
    finding = find_answer(token_text, AnswerConfig(), problem.choices)
    answered = trace.with_answer(finding.answer, finding.failure)
    confidences = (get_signal(name).confidence(answered, token_text.pieces) for name in SIGNALS)
    return Branch(
        first_token=token_text.pieces[0],
        style=style_of(trace.text),
        correct=finding.answer is not None and finding.answer.text == problem.gold,
        confidences=tuple(confidence or 0.0 for confidence in confidences),
        tokens=len(trace.token_ids),
        truncated=trace.truncated,
    )


def sample_branches(
    model: ModelConfig, problems: Sequence[Problem], max_new_tokens: int, branches: int = BRANCHES
) -> list[list[Branch]]:
    """The graded CoT-decoding branches (arXiv 2402.10200) of every problem, the most likely first token first."""
    tokenizer = load_tokenizer(model)
    engine = TransformersEngine(load_model(model), tokenizer)
    requests = [
        SamplingRequest(problem.id, render(problem.prompt.without_gold(), tokenizer, RenderConfig()).token_ids)
        for problem in problems
    ]
    config = SamplingConfig(branches=branches, max_new_tokens=max_new_tokens)
    return [
        [_grade(trace, problem, TokenText.from_ids(tokenizer, trace.token_ids)) for trace in traces]
        for problem, traces in zip(problems, engine.sample(requests, config), strict=True)
    ]


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return float(np.mean(values)) if values else None


def _first_worked(row: Sequence[Branch]) -> Branch | None:
    return next((branch for branch in row if branch.style == "worked"), None)


def _latent(rows: Iterable[Sequence[Branch]]) -> float | None:
    return _mean(branch is not None and branch.correct for branch in map(_first_worked, rows))


def _greedy_figures(greedy: Sequence[Branch]) -> dict[str, float | None]:
    confidences, correct = [branch.confidence for branch in greedy], [branch.correct for branch in greedy]
    return {
        "greedy_accuracy": _mean(correct),
        "greedy_direct_share": _mean(branch.style == "direct" for branch in greedy),
        "greedy_mean_confidence": _mean(confidences),
        "greedy_ece": ece(confidences, correct),
        "greedy_wrong_but_sure": _mean(branch.confidence > SURE for branch in greedy if not branch.correct),
        "greedy_mean_tokens": _mean(branch.tokens for branch in greedy),
    }


def _signal_figures(branches: Sequence[Sequence[Branch]]) -> dict[str, float | None]:
    """How well a signal picks among the branches of a question, and tells right from wrong among worked ones."""
    worked = [branch for row in branches for branch in row if branch.style == "worked"]
    outcomes = {branch.correct for branch in worked}
    figures: dict[str, float | None] = {}
    for number, signal in enumerate(SIGNALS):
        surest = [max(row, key=lambda branch: branch.confidences[number]) for row in branches]
        figures[f"surest_of_ten_accuracy_{signal}"] = _mean(branch.correct for branch in surest)
        figures[f"worked_auroc_{signal}"] = (
            auroc([branch.confidences[number] for branch in worked], [branch.correct for branch in worked])
            if len(outcomes) == 2
            else None
        )
    return figures


def _grouped(
    problems: Sequence[Problem], branches: Sequence[Sequence[Branch]], key: Callable[[Problem], str]
) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Sequence[Branch]]] = defaultdict(list)
    for problem, row in zip(problems, branches, strict=True):
        groups[key(problem)].append(row)
    return {
        name: {
            "questions": len(rows),
            "greedy_accuracy": _mean(row[0].correct for row in rows),
            "latent_worked_accuracy": _latent(rows),
        }
        for name, rows in sorted(groups.items())
    }


def _by_opening(problems: Sequence[Problem], branches: Sequence[Sequence[Branch]]) -> dict[str, dict[str, Any]]:
    """Figures per first token, the most frequent first; the names of a question's own people count as one."""
    groups: dict[str, list[Branch]] = defaultdict(list)
    for problem, row in zip(problems, branches, strict=True):
        for branch in row:
            named = branch.first_token.strip() in problem.names
            groups["(name)" if named else branch.first_token.strip()].append(branch)
    return {
        opening: {
            "branches": len(group),
            "accuracy": _mean(branch.correct for branch in group),
            "worked": _mean(branch.style == "worked" for branch in group),
            "confidence": _mean(branch.confidence for branch in group),
        }
        for opening, group in sorted(groups.items(), key=lambda item: -len(item[1]))
    }


def measure(problems: Sequence[Problem], branches: Sequence[Sequence[Branch]]) -> dict[str, Any]:
    """The figures of the model card; None where nothing was there to be measured.

    ``latent_worked_accuracy``: of all questions, those whose most likely worked branch is right; a question without
    a worked branch counts as wrong. ``worked_branch_accuracy``: of all worked branches of all questions.
    ``greedy_wrong_but_sure``: of the wrong greedy answers, those with a confidence above ``SURE``.
    """
    every = [branch for row in branches for branch in row]
    by_style = {style: [branch for branch in every if branch.style == style] for style in ("direct", "worked")}
    return {
        "questions": len(problems),
        **_greedy_figures([row[0] for row in branches]),
        "latent_worked_accuracy": _latent(branches),
        "worked_branch_accuracy": _mean(branch.correct for branch in by_style["worked"]),
        "worked_branch_share": len(by_style["worked"]) / len(every),
        "worked_mean_tokens": _mean(branch.tokens for branch in by_style["worked"]),
        "direct_branch_accuracy": _mean(branch.correct for branch in by_style["direct"]),
        **_signal_figures(branches),
        "truncated_branches": sum(branch.truncated for branch in every),
        "by_format": _grouped(problems, branches, lambda problem: "choice" if problem.choices else "number"),
        "by_goal": _grouped(problems, branches, lambda problem: problem.arithmetic.goal),
        "by_equations": _grouped(problems, branches, lambda problem: str(len(problem.arithmetic.equations))),
        "by_opening": _by_opening(problems, branches),
    }
