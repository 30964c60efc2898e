"""The selection stage: one answer a question by each selector, and accuracy over N where gold answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsf.answers.equivalence import Grader
from rlsf.errors import InputError
from rlsf.evaluation.modes import Verdicts
from rlsf.files import write_json, write_text
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.select import Ballot, GradedTraces, Selector, accuracy_curves

ANSWERS, CURVES = "answers.jsonl", "curves.json"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trace as selection sees it."""

    index: int
    answer: str | None
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Candidates:
    """The traces of one question, in the order of their indices; ``gold`` where it is known."""

    id: str
    traces: tuple[Candidate, ...]
    choices: tuple[str, ...] = ()
    gold: str | None = None


@dataclass(frozen=True, slots=True)
class SelectionSettings:
    """What decides the result, besides the traces."""

    selectors: tuple[Selector, ...]
    subsets: int
    resamples: int
    seed: int

    @property
    def inputs(self) -> dict[str, Any]:
        return {
            "selectors": [selector.name for selector in self.selectors],
            "subsets": self.subsets,
            "bootstrap": self.resamples,
            "seed": self.seed,
        }


def select_stage(
    folder: Path,
    read: Callable[[], Sequence[Candidates]],
    settings: SelectionSettings,
    inputs: dict[str, Any],
    progress: ProgressDisplay,
) -> Manifest:
    """Write ``answers.jsonl``, a row a question and selector, and ``curves.json`` of the questions with gold answers.

    ``read`` returns the candidates, ``inputs`` is what they were made from. Raises ``InputError`` where the stage was
    done with others, and where a selector asks how sure traces are and none of them says so.
    """
    inputs = {**inputs, **settings.inputs}
    done = finished(folder, "select", inputs)
    if done is not None:
        return done
    questions = read()
    unsure = _without_confidence(questions, settings.selectors)
    with Grader() as grader, progress.stage("select", len(questions)) as advance:
        chosen = [_choose(question, settings.selectors, grader, advance) for question in questions]
    rows = [row for choice in chosen for row in choice.rows]
    graded = [choice.graded for choice in chosen if choice.graded is not None]
    if graded:
        curves = accuracy_curves(
            graded, settings.selectors, subsets=settings.subsets, seed=settings.seed, resamples=settings.resamples
        )
        write_json(folder / CURVES, curves.model_dump(mode="json"))
    write_text(folder / ANSWERS, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    counts = {
        "questions": len(questions),
        "traces": sum(len(question.traces) for question in questions),
        "unanswered": sum(all(trace.answer is None for trace in question.traces) for question in questions),
        "without_confidence": unsure,
        "labelled": bool(graded),
        "most_traces": max(len(question.traces) for question in questions),
        "undecided": sum(choice.undecided for choice in chosen),
    }
    manifest = Manifest("select", inputs, counts)
    manifest.write(folder)
    return manifest


def _without_confidence(questions: Sequence[Candidates], selectors: Sequence[Selector]) -> int:
    """How many answered traces lack a confidence that a selector asks for; raises ``InputError`` where all do."""
    held = [trace.confidence for question in questions for trace in question.traces if trace.answer is not None]
    lacking = held.count(None)
    asking = [selector.name for selector in selectors if selector.kind != "majority"]
    if not asking:
        return 0
    if held and lacking == len(held):
        raise InputError(
            f"none of the {len(held):,} traces with an answer has a confidence, which {', '.join(asking)} need: choose"
            " by another --signal or column (--traces FOLDER where they were sampled here), or --selectors majority"
        )
    return lacking


@dataclass(frozen=True, slots=True)
class _Choices:
    """What the selectors make of one question; ``undecided`` grades count as wrong."""

    rows: list[dict[str, Any]]
    graded: GradedTraces | None
    undecided: int


def _choose(
    question: Candidates, selectors: Sequence[Selector], grader: Grader, advance: Callable[[int], None]
) -> _Choices:
    """The choices among the traces of a question, whose answers are compared once."""
    verdicts = Verdicts(question.gold or "", question.choices, grader)
    answers = [trace.answer for trace in question.traces]
    ballot = Ballot.of(answers, [trace.confidence for trace in question.traces], verdicts.same)
    graded = None
    if question.gold is not None:
        correct = [answer is not None and bool(verdicts.of(answer)) for answer in answers]
        graded = GradedTraces.of(question.id, ballot, correct)
    rows = list(_rows(question, ballot, selectors, verdicts))
    advance(1)
    return _Choices(rows, graded, sum(verdict is None for verdict in verdicts.known.values()))


def _rows(
    question: Candidates, ballot: Ballot, selectors: Sequence[Selector], verdicts: Verdicts
) -> Iterator[dict[str, Any]]:
    """What each selector chooses; a question that no trace answers has rows without an answer."""
    for selector in selectors:
        vote = selector.choose(ballot)
        trace = None if vote is None else question.traces[vote.index]
        answer = None if trace is None else trace.answer
        row: dict[str, Any] = {
            "id": question.id,
            "selector": selector.name,
            "answer": answer,
            "index": None if trace is None else trace.index,
            "confidence": None if trace is None else trace.confidence,
            "votes": 0 if vote is None else len(vote.members),
            "traces": len(question.traces),
            # One vote out of one says nothing.
            "share": None if vote is None or selector.kind == "argmax" else vote.share,
        }
        if question.gold is not None:
            row |= {"gold": question.gold, "correct": answer is not None and bool(verdicts.of(answer))}
        yield row
