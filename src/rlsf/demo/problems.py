"""Arithmetic problems before they become stories: quantities, equations and the question asked of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Operator = Literal["+", "-", "*"]
#: value: the last result. together / difference: two people's totals, added or subtracted.
#: most / fewest: which of four people has the largest or smallest total.
Goal = Literal["value", "together", "difference", "most", "fewest"]

PEOPLE_COMPARED = 4


@dataclass(frozen=True, slots=True)
class Equation:
    """``left operator right = result``."""

    left: int
    operator: Operator
    right: int

    @property
    def result(self) -> int:
        """What the equation comes to."""
        if self.operator == "+":
            return self.left + self.right
        return self.left - self.right if self.operator == "-" else self.left * self.right

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right} = {self.result}"


@dataclass(frozen=True, slots=True)
class Holding:
    """What one person or place begins with and the changes to it, in the order of the story."""

    start: int
    changes: tuple[tuple[Operator, int], ...] = ()

    @property
    def equations(self) -> tuple[Equation, ...]:
        """One equation a change, each starting from the result of the one before."""
        value, equations = self.start, []
        for operator, quantity in self.changes:
            equations.append(Equation(value, operator, quantity))
            value = equations[-1].result
        return tuple(equations)

    @property
    def total(self) -> int:
        """What is there at the end."""
        return self.equations[-1].result if self.changes else self.start

    @property
    def quantities(self) -> tuple[int, ...]:
        """The numbers a story about it must name."""
        return (self.start, *(quantity for _, quantity in self.changes))

    def __str__(self) -> str:
        return str(self.start) + "".join(f"{operator}{quantity}" for operator, quantity in self.changes)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A problem without its words."""

    goal: Goal
    holdings: tuple[Holding, ...]

    @property
    def canonical(self) -> str:
        """Structure and numbers, free of names, objects and wording: ``together:23+15|40-12``."""
        return f"{self.goal}:{'|'.join(map(str, self.holdings))}"

    @property
    def quantities(self) -> tuple[int, ...]:
        """Every number in the story, sorted: two problems about the same numbers share it."""
        return tuple(sorted(quantity for holding in self.holdings for quantity in holding.quantities))

    @property
    def closing(self) -> Equation | None:
        """The equation that joins the holdings, where the goal is a number made of two of them."""
        if self.goal not in ("together", "difference"):
            return None
        first, second = self.holdings
        return Equation(first.total, "+" if self.goal == "together" else "-", second.total)

    @property
    def equations(self) -> tuple[Equation, ...]:
        """Every equation of the worked solution, in order."""
        own = tuple(equation for holding in self.holdings for equation in holding.equations)
        return own if self.closing is None else (*own, self.closing)

    @property
    def result(self) -> int:
        """The number asked for, or the total of the person asked for."""
        totals = [holding.total for holding in self.holdings]
        if self.goal == "most":
            return max(totals)
        if self.goal == "fewest":
            return min(totals)
        return self.equations[-1].result


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the numbers of a problem are, no total above ``largest`` and no change above ``change``, and how many
    changes there are: ``steps`` of a chain with their weights, ``after_groups`` at least and at most, and ``each`` of
    two people."""

    largest: int
    starts: tuple[int, int]
    change: int
    groups: tuple[int, int]
    sizes: tuple[int, int]
    steps: Mapping[int, int]
    after_groups: tuple[int, int] = (1, 2)
    each: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class Level:
    """How hard problems are. ``small_share``: those about small numbers, of which some can be answered unworked."""

    small: Scale
    large: Scale
    small_share: float

    @property
    def largest(self) -> int:
        """No number of a question or a solution exceeds it."""
        return self.large.largest


#: Two to four steps, numbers below a hundred.
SHORT = Level(
    small=Scale(largest=19, starts=(3, 15), change=9, groups=(2, 3), sizes=(3, 6), steps={2: 65, 3: 35}),
    large=Scale(largest=99, starts=(10, 90), change=39, groups=(2, 9), sizes=(3, 9), steps={2: 45, 3: 40, 4: 15}),
    small_share=0.55,
)
_TWO_TO_EIGHT = {2: 20, 3: 18, 4: 16, 5: 14, 6: 12, 7: 10, 8: 10}
#: Two to eight steps, numbers below a thousand.
LONG = Level(
    small=Scale(
        largest=29,
        starts=(3, 25),
        change=9,
        groups=(2, 5),
        sizes=(3, 5),
        steps=_TWO_TO_EIGHT,
        after_groups=(1, 7),
        each=(1, 3),
    ),
    large=Scale(
        largest=999,
        starts=(20, 900),
        change=299,
        groups=(2, 9),
        sizes=(3, 40),
        steps=_TWO_TO_EIGHT,
        after_groups=(1, 7),
        each=(1, 3),
    ),
    small_share=0.4,
)


def _between(bounds: tuple[int, int], rng: random.Random) -> int:
    """A number of a range; what is certain is not drawn."""
    return bounds[0] if bounds[0] == bounds[1] else rng.randint(*bounds)


def _changes(start: int, count: int, rng: random.Random, scale: Scale) -> tuple[tuple[Operator, int], ...]:
    value, changes = start, []
    for _ in range(count):
        above, below = scale.largest - value, value - 1
        gains = below < 2 or (above >= 2 and rng.random() < above / (above + below))
        quantity = rng.randint(2, min(scale.change, above if gains else below))
        changes.append(("+" if gains else "-", quantity))
        value += quantity if gains else -quantity
    return tuple(changes)


def _holding(rng: random.Random, scale: Scale, steps: int) -> Holding:
    start = rng.randint(*scale.starts)
    return Holding(start, _changes(start, steps, rng, scale))


def _chain(rng: random.Random, scale: Scale) -> Arithmetic:
    steps = rng.choices(list(scale.steps), weights=list(scale.steps.values()))[0]
    return Arithmetic("value", (_holding(rng, scale, steps),))


def _groups(rng: random.Random, scale: Scale) -> Arithmetic:
    groups, size = rng.randint(*scale.groups), rng.randint(*scale.sizes)
    first: tuple[Operator, int] = ("*", size)
    changes = _changes(groups * size, _between(scale.after_groups, rng), rng, scale)
    return Arithmetic("value", (Holding(groups, (first, *changes)),))


def _pair(rng: random.Random, scale: Scale) -> Arithmetic:
    one, other = (_holding(rng, scale, _between(scale.each, rng)) for _ in range(2))
    if one.total + other.total <= scale.largest and rng.random() < 0.7:
        return Arithmetic("together", (one, other))
    return Arithmetic("difference", (one, other) if one.total > other.total else (other, one))


def _ranking(rng: random.Random, scale: Scale) -> Arithmetic:
    goal: Goal = "most" if rng.random() < 0.5 else "fewest"
    changed = set(rng.sample(range(PEOPLE_COMPARED), 2))
    return Arithmetic(goal, tuple(_holding(rng, scale, int(person in changed)) for person in range(PEOPLE_COMPARED)))


_KINDS: tuple[tuple[Callable[[random.Random, Scale], Arithmetic], float], ...] = (
    (_chain, 0.65),
    (_groups, 0.15),
    (_pair, 0.15),
    (_ranking, 0.05),
)


def _well_posed(arithmetic: Arithmetic) -> bool:
    totals = [holding.total for holding in arithmetic.holdings]
    return arithmetic.result > 0 and len(set(totals)) == len(totals)


def draw(rng: random.Random, level: Level = SHORT) -> Arithmetic:
    """A random well-posed problem: positive results, and no two people with equal totals."""
    makers, weights = zip(*_KINDS, strict=True)
    while True:
        scale = level.small if rng.random() < level.small_share else level.large
        arithmetic = rng.choices(makers, weights=weights)[0](rng, scale)
        if _well_posed(arithmetic):
            return arithmetic


def small_chain(rng: random.Random, level: Level = SHORT) -> Arithmetic:
    """A chain of small numbers, the kind that can be done in the head."""
    return _chain(rng, level.small)
