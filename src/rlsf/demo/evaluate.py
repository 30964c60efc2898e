"""Measure the bundled model: ``python -m rlsf.demo.evaluate [--model DIR] [--questions N] [--json FILE]``.

Greedy decoding against the ten branches of CoT-decoding (arXiv 2402.10200) on held-out questions: how often the
model answers directly, how often it is right, how sure it is, and what each way of beginning is worth.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from rlsf.demo import MODEL_DIR
from rlsf.demo.solutions import Style, style_of
from rlsf.demo.tasks import Problem, generate
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.transformers_engine import TransformersEngine
from rlsf.traces import Trace

BRANCHES = 10
MAX_NEW_TOKENS = 80
_BINS = 10
_SURE = 0.8


@dataclass(frozen=True, slots=True)
class Branch:
    """One graded trace. ``confidence`` is the mean disparity of the answer's tokens, 0 without an answer."""

    first_token: str
    style: Style
    correct: bool
    confidence: float
    tokens: int
    truncated: bool


def _grade(trace: Trace, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> Branch:
    """The last number, or the last letter in parentheses, against the gold answer.

    Digits and letters are single tokens here, so the answer's tokens are read off directly.
    """
    pieces = tokenizer.batch_decode([[token] for token in trace.token_ids.tolist()])
    found = re.findall(r"\(([A-D])\)" if problem.choices else r"\d+", trace.text)
    width = len(found[-1]) if found else 0
    places = [
        i
        for i, piece in enumerate(pieces)
        if (piece.strip() in "ABCD" if problem.choices else piece.strip().isdigit()) and piece.strip()
    ]
    span = places[-width:] if width else []
    return Branch(
        first_token=pieces[0],
        style=style_of(trace.text),
        correct=bool(found) and found[-1] == problem.gold,
        confidence=float(trace.statistics.disparity[span].mean()) if span else 0.0,
        tokens=len(pieces),
        truncated=trace.truncated,
    )


def sample(folder: Path, problems: Sequence[Problem], branches: int = BRANCHES) -> list[list[Branch]]:
    """The graded branches of every problem, most likely first token first."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    engine = TransformersEngine(model, tokenizer)
    requests = [SamplingRequest(problem.id, tuple(tokenizer(problem.text)["input_ids"])) for problem in problems]
    config = SamplingConfig(branches=branches, max_new_tokens=MAX_NEW_TOKENS)
    return [
        [_grade(trace, problem, tokenizer) for trace in traces]
        for problem, traces in zip(problems, engine.sample(requests, config), strict=True)
    ]


def _share(flags: Sequence[bool]) -> float:
    return float(np.mean(flags)) if flags else 0.0


def expected_calibration_error(branches: Sequence[Branch]) -> float:
    """Ten bins of equal width: the mean of |accuracy - mean confidence|, weighted by the size of the bins."""
    confidences = np.array([branch.confidence for branch in branches])
    correct = np.array([branch.correct for branch in branches], dtype=float)
    bins = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
    gaps = [
        (bins == number).mean() * abs(correct[bins == number].mean() - confidences[bins == number].mean())
        for number in np.unique(bins)
    ]
    return float(np.sum(gaps))


def measure(problems: Sequence[Problem], branches: Sequence[Sequence[Branch]]) -> dict[str, Any]:
    """The figures of the model card.

    ``latent_worked_accuracy``: of all questions, those whose most likely worked branch is right; a question without
    a worked branch counts as wrong. ``worked_branch_accuracy``: of all worked branches of all questions.
    """
    greedy = [row[0] for row in branches]
    first_worked = [next((branch for branch in row if branch.style == "worked"), None) for row in branches]
    every = [branch for row in branches for branch in row]
    by_kind: dict[str, list[int]] = defaultdict(list)
    by_opening: dict[str, list[Branch]] = defaultdict(list)
    for position, problem in enumerate(problems):
        by_kind[f"{problem.arithmetic.goal}, {'choice' if problem.choices else 'number'}"].append(position)
        for branch in branches[position]:
            by_opening["(name)" if branch.first_token.strip() in problem.names else branch.first_token].append(branch)
    return {
        "questions": len(problems),
        "greedy_accuracy": _share([branch.correct for branch in greedy]),
        "greedy_direct_share": _share([branch.style == "direct" for branch in greedy]),
        "greedy_ece": expected_calibration_error(greedy),
        "greedy_mean_confidence": float(np.mean([branch.confidence for branch in greedy])),
        "greedy_wrong_but_sure": _share([branch.confidence > _SURE for branch in greedy if not branch.correct]),
        "greedy_mean_tokens": float(np.mean([branch.tokens for branch in greedy])),
        "latent_worked_accuracy": _share([branch is not None and branch.correct for branch in first_worked]),
        "worked_branch_accuracy": _share([branch.correct for branch in every if branch.style == "worked"]),
        "worked_branch_share": _share([branch.style == "worked" for branch in every]),
        "worked_mean_tokens": float(np.mean([branch.tokens for branch in every if branch.style == "worked"])),
        "direct_branch_accuracy": _share([branch.correct for branch in every if branch.style == "direct"]),
        "truncated": sum(branch.truncated for branch in every),
        "by_kind": {
            kind: {
                "questions": len(positions),
                "greedy": _share([greedy[position].correct for position in positions]),
                "latent_worked": _share([getattr(first_worked[position], "correct", False) for position in positions]),
            }
            for kind, positions in sorted(by_kind.items())
        },
        "by_opening": {
            opening: {
                "branches": len(group),
                "accuracy": _share([branch.correct for branch in group]),
                "worked": _share([branch.style == "worked" for branch in group]),
                "confidence": float(np.mean([branch.confidence for branch in group])),
            }
            for opening, group in sorted(by_opening.items(), key=lambda item: -len(item[1]))
        },
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as three tables."""
    headline = Table("figure", "value", title="Bundled model")
    for name, value in figures.items():
        if not isinstance(value, dict):
            headline.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    console.print(headline)
    for name, title in (("by_kind", "By kind of question"), ("by_opening", "By first token of the branch")):
        columns = list(next(iter(figures[name].values())))
        table = Table("", *columns, title=title)
        for label, row in figures[name].items():
            table.add_row(
                label, *(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values())
            )
        console.print(table)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the bundled model on held-out questions.")
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    problems = generate(options.split, options.questions, options.seed)
    figures = measure(problems, sample(options.model, problems))
    show(figures, Console())
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
