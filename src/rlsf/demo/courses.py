"""Courses: the models that the package can train from scratch, with what each of them is taught.

A model of a course lies beside ``course.json``, which names it; the bundled model is of the first course.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rlsf.demo.problems import LONG, SHORT, Level
from rlsf.errors import InputError, near_names

FILE = "course.json"


@dataclass(frozen=True, slots=True)
class Course:
    """A model's shape, the problems it is taught, and how.

    ``makers``: processes that make its batches, 0 for the one that trains; other numbers make other batches.
    """

    name: str
    level: Level
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    questions_per_step: int
    steps: int
    max_new_tokens: int
    makers: int = 0

    def write(self, folder: Path) -> None:
        """Say in a model's folder that it is of this course."""
        (folder / FILE).write_text(json.dumps({"course": self.name}) + "\n", encoding="utf-8")


#: The bundled model, for processors.
SUMS_1M = Course("sums-1m", SHORT, 160, 448, layers=4, heads=5, questions_per_step=24, steps=3600, max_new_tokens=80)
#: A larger one, for a GPU: problems of up to eight steps with numbers below a thousand.
SUMS_24M = Course(
    "sums-24m", LONG, 576, 1536, layers=6, heads=9, questions_per_step=256, steps=2000, max_new_tokens=160, makers=12
)
COURSES = {course.name: course for course in (SUMS_1M, SUMS_24M)}


def find_course(name: str) -> Course:
    """The course called ``name``; raises ``InputError``."""
    if name not in COURSES:
        raise InputError(f"course {name!r}: unknown{near_names(name, COURSES)}; known: {', '.join(COURSES)}")
    return COURSES[name]


def course_of(model: Path) -> Course:
    """The course that the model in a folder has taken; raises ``InputError`` where it has taken none."""
    file = model / FILE
    if not file.exists():
        raise InputError(
            f"{model} has no {FILE}: name a model that python -m rlsf.demo.train has made, or say whose questions it is"
            " asked"
        )
    return find_course(json.loads(file.read_text(encoding="utf-8"))["course"])
