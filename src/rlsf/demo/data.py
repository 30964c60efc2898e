"""The demo's question files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlsf.demo.problems import SHORT, Level
from rlsf.demo.tasks import Problem, generate
from rlsf.files import write_text


def _record(problem: Problem, with_answer: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"id": problem.id, "question": problem.question}
    if problem.choices:
        record["choices"] = list(problem.choices)
    if with_answer:
        record["answer"] = problem.gold
    return record


def _write(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    # A run that reads the same questions would otherwise take them for changed.
    if not (path.exists() and path.read_text(encoding="utf-8") == text):
        write_text(path, text)
    return path


def write_data(
    folder: Path, self_training: int, test: int, seed: int = 0, *, labelled: bool = False, level: Level = SHORT
) -> tuple[Path, Path]:
    """Write questions to learn from and ``test.jsonl`` (with answers) and return their paths.

    The former are ``self_training.jsonl``, without answers, or, for methods that need them, ``labelled.jsonl``.
    """
    questions = (
        _record(problem, with_answer=labelled) for problem in generate("self_training", self_training, seed, level)
    )
    held_out = (_record(problem, with_answer=True) for problem in generate("test", test, seed, level))
    name = "labelled.jsonl" if labelled else "self_training.jsonl"
    return _write(folder / name, questions), _write(folder / "test.jsonl", held_out)
