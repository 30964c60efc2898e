"""Measure the bundled model, or one of another course: ``python -m rlsf.demo.evaluate [--model DIR]``.

Greedy decoding against the ten branches of CoT-decoding on held-out questions: how often the model answers
directly, how often it is right, how sure it is, and what each way of beginning is worth.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rlsf.demo import MODEL_DIR
from rlsf.demo.branches import measure, sample_branches
from rlsf.demo.courses import course_of
from rlsf.demo.tasks import generate
from rlsf.errors import InputError
from rlsf.models import resolve_device
from rlsf.models.config import ModelConfig

_TABLES = {
    "by_format": "By answer format",
    "by_goal": "By what is asked",
    "by_equations": "By number of equations",
    "by_opening": "By first token of the branch",
}


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as tables."""
    headline = Table("figure", "value", title="The model on held-out questions")
    for name, value in figures.items():
        if name not in _TABLES:
            headline.add_row(name, _cell(value))
    console.print(headline)
    for name, title in _TABLES.items():
        rows = figures[name]
        table = Table("", *next(iter(rows.values())), title=title)
        for label, row in rows.items():
            table.add_row(label, *map(_cell, row.values()))
        console.print(table)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the bundled model on held-out questions.")
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    try:
        course = course_of(options.model)
        resolve_device(options.device)
    except InputError as error:
        parser.error(str(error))
    problems = generate(options.split, options.questions, options.seed, course.level)
    model = ModelConfig(path=str(options.model), device=options.device, dtype="float32")
    figures = measure(problems, sample_branches(model, problems, course.max_new_tokens))
    show(figures, Console())
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
