"""Questions for the bundled model: seeded, endless, and disjoint between splits by construction."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

from rlsf.demo.problems import Arithmetic, draw
from rlsf.demo.stories import tell
from rlsf.prompts.prompt import Prompt

Split = Literal["train", "validation", "self_training", "test"]
LETTERS = "ABCD"
_SHARES: dict[Split, int] = {"train": 76, "validation": 4, "self_training": 10, "test": 10}
_CHOICE_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with everything needed to answer it and to check the answer.

    ``names`` are the owners of the holdings, in order; ``gold`` is a number or, with choices, a letter.
    """

    id: str
    question: str
    choices: tuple[str, ...]
    gold: str
    arithmetic: Arithmetic
    names: tuple[str, ...]

    @property
    def prompt(self) -> Prompt:
        """The question as the rest of the package knows it, gold answer included."""
        return Prompt(self.id, self.question, self.choices, self.gold)

    @property
    def text(self) -> str:
        """The prompt the model is trained on: the default rendering for base models."""
        options = "".join(f"\n({letter}) {choice}" for letter, choice in zip(LETTERS, self.choices, strict=False))
        return f"Q: {self.question}{options}\nA:"


def split_of(arithmetic: Arithmetic) -> Split:
    """The split a problem belongs to, decided by its sorted quantities alone.

    Two problems about the same numbers are in the same split whatever their order, operators, names, objects or
    wording, so that no question of one split can be answered from memory of another.
    """
    key = "quantities:" + ",".join(map(str, arithmetic.quantities))
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    for split, share in _SHARES.items():
        if place < share:
            return split
        place -= share
    raise AssertionError("the shares of the splits add up to 100")


def _wrong_results(arithmetic: Arithmetic, rng: random.Random) -> list[str]:
    """Three numbers one slip away from the result: a step forgotten or undone, a carry lost, a count off by one."""
    result = arithmetic.result
    near = {result + offset for offset in (-10, -2, -1, 1, 2, 10)}
    slips = {result + sign * quantity for quantity in arithmetic.quantities for sign in (-1, 1)}
    candidates = sorted(near | slips | {equation.result for equation in arithmetic.equations})
    plausible = [value for value in candidates if value > 0 and value != result and abs(value - result) <= 25]
    return [str(value) for value in rng.sample(plausible, len(LETTERS) - 1)]


def _problem(identifier: str, arithmetic: Arithmetic, rng: random.Random) -> Problem:
    story = tell(arithmetic, rng)
    if arithmetic.goal in ("most", "fewest"):
        correct = story.names[[holding.total for holding in arithmetic.holdings].index(arithmetic.result)]
        choices = rng.sample(story.names, len(story.names))
    elif rng.random() < _CHOICE_SHARE:
        correct = str(arithmetic.result)
        choices = [correct, *_wrong_results(arithmetic, rng)]
        rng.shuffle(choices)
    else:
        return Problem(identifier, story.question, (), str(arithmetic.result), arithmetic, story.names)
    gold = LETTERS[choices.index(correct)]
    return Problem(identifier, story.question, tuple(choices), gold, arithmetic, story.names)


def stream(split: Split, seed: int = 0) -> Iterator[Problem]:
    """Endless problems of a split, no two with the same structure and numbers; the same for the same seed."""
    rng = random.Random(f"rlsf.demo:{split}:{seed}")
    seen: set[str] = set()
    while True:
        arithmetic = draw(rng)
        if split_of(arithmetic) != split or arithmetic.canonical in seen:
            continue
        yield _problem(f"{split}-{seed}-{len(seen)}", arithmetic, rng)
        seen.add(arithmetic.canonical)


def generate(split: Split, count: int, seed: int = 0) -> list[Problem]:
    """The first ``count`` problems of ``stream(split, seed)``.

    Raises ``ValueError`` for an unknown split.
    """
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}: use one of {', '.join(get_args(Split))}")
    return list(islice(stream(split, seed), count))
