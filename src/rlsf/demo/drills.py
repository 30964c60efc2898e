"""Drills: the single skills that solutions are made of, practised apart from any question.

Equations one at a time: no question is answered by one alone. Small chains in one go, as a direct answer does:
only chains whose numbers belong to the training split, so that a drill gives away no held-out answer.
"""

from __future__ import annotations

import random

from rlsf.demo.problems import SHORT, Arithmetic, Equation, Level, small_chain
from rlsf.demo.tasks import split_of

EQUATIONS, CHAINS = 9, 7


def equation(rng: random.Random, level: Level = SHORT) -> Equation:
    """A sum, a difference, or now and then a product."""
    if rng.random() < 0.1:
        return Equation(rng.randint(*level.large.groups), "*", rng.randint(*level.large.sizes))
    left = rng.randint(2, level.largest - 2)
    if rng.random() < 0.5:
        return Equation(left, "+", rng.randint(2, level.largest - left))
    return Equation(left, "-", rng.randint(1, left - 1))


def chain(rng: random.Random, level: Level = SHORT) -> Arithmetic:
    """A small chain of the training split."""
    while True:
        arithmetic = small_chain(rng, level)
        if arithmetic.result > 0 and split_of(arithmetic) == "train":
            return arithmetic


def in_one_go(arithmetic: Arithmetic) -> str:
    """``12 + 5 - 3 = 14.``"""
    holding = arithmetic.holdings[0]
    changes = "".join(f" {operator} {quantity}" for operator, quantity in holding.changes)
    return f"{holding.start}{changes} = {arithmetic.result}."


def drill(rng: random.Random, level: Level = SHORT) -> str:
    """A text of equations or, as often, of chains."""
    if rng.random() < 0.5:
        return " ".join(f"{equation(rng, level)}." for _ in range(EQUATIONS))
    return " ".join(in_one_go(chain(rng, level)) for _ in range(CHAINS))
