"""What the bundled model learns to say: direct answers and worked solutions, each with several openings.

The first token tells the two kinds apart and differs between all openings, so the ten most likely first tokens of
the trained model are natural ways to begin.
"""

from __future__ import annotations

import random
from typing import Literal

from rlsf.demo.tasks import LETTERS, Problem

Style = Literal["direct", "worked"]

#: Openings and how often each is used among the completions of its style.
DIRECT_OPENINGS: dict[str, float] = {
    "The answer is": 0.32,
    "It is": 0.20,
    "That makes": 0.16,
    "I think it is": 0.14,
    "Clearly": 0.11,
    "Answer:": 0.07,
}
WORKED_OPENINGS: dict[str, float] = {
    "First,": 0.27,
    "Let us count:": 0.21,
    "We work it out:": 0.18,
    "Step by step:": 0.15,
    "Start with": 0.11,
    "{name}:": 0.08,
}


def answer_of(problem: Problem) -> str:
    """The gold answer as the model writes it: a number or a name; with options, the text of the right one."""
    return problem.choices[LETTERS.index(problem.gold)] if problem.choices else problem.gold


def _working(problem: Problem) -> str:
    arithmetic = problem.arithmetic
    if arithmetic.goal == "value":
        return " ".join(f"{equation}." for equation in arithmetic.equations)
    parts = [
        f"{name} {equation}."
        for name, holding in zip(problem.names, arithmetic.holdings, strict=True)
        for equation in holding.equations
    ]
    if arithmetic.closing is not None:
        parts.append(f"{arithmetic.closing}.")
    else:
        totals = [holding.total for holding in arithmetic.holdings]
        winner = problem.names[totals.index(arithmetic.result)]
        parts.append(f"{winner} has the {arithmetic.goal}.")
    return " ".join(parts)


def _draw(openings: dict[str, float], rng: random.Random) -> str:
    return rng.choices(list(openings), weights=list(openings.values()))[0]


def complete(problem: Problem, style: Style, rng: random.Random) -> str:
    """A completion in a random opening, beginning with a space: the gold answer, directly or after the working."""
    if style == "direct":
        return f" {_draw(DIRECT_OPENINGS, rng)} {answer_of(problem)}."
    opening = _draw(WORKED_OPENINGS, rng).format(name=problem.names[0])
    return f" {opening} {_working(problem)} So the answer is {answer_of(problem)}."


def style_of(completion: str) -> Style:
    """Whether a completion shows its working: whether it contains an equation."""
    return "worked" if " = " in completion else "direct"
