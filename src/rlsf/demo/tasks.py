"""Questions for the bundled model: seeded, endless, and disjoint between splits by construction."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

from rlsf.demo.problems import SHORT, Arithmetic, Level, draw
from rlsf.demo.stories import tell
from rlsf.prompts.prompt import Prompt

Split = Literal["train", "validation", "self_training", "test"]
LETTERS = "ABCD"
_SHARES: dict[Split, int] = {"train": 76, "validation": 4, "self_training": 10, "test": 10}
#: The share of questions with options, where the problem allows both. The questions that are asked have more of them
#: than the training text: a direct answer is often right where there are options, and rarely where there are none.
_CHOICE_SHARES: dict[Split, float] = {"train": 0.25, "validation": 0.7, "self_training": 0.7, "test": 0.7}


def options_text(choices: Sequence[str]) -> str:
    """One option a line, lettered, each on a new line."""
    return "".join(f"\n({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=True))


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
        return f"Q: {self.question}{options_text(self.choices) if self.choices else ''}\nA:"


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


def wrong_results(result: int, others: Iterable[int], rng: random.Random) -> list[str]:
    """Three numbers near ``result`` such as slips lead to: off by one, two or ten, or one of ``others``."""
    near = {result + offset for offset in (-10, -3, -2, -1, 1, 2, 3, 10)}
    plausible = sorted(value for value in near.union(others) if value > 0 and value != result)
    return [str(value) for value in rng.sample(plausible, len(LETTERS) - 1)]


def _problem(identifier: str, arithmetic: Arithmetic, choice_share: float, rng: random.Random) -> Problem:
    story = tell(arithmetic, rng)
    if arithmetic.goal in ("most", "fewest"):
        correct = story.names[[holding.total for holding in arithmetic.holdings].index(arithmetic.result)]
        choices = rng.sample(story.names, len(story.names))
    elif rng.random() < choice_share:
        correct = str(arithmetic.result)
        steps = {equation.result for equation in arithmetic.equations}
        choices = [correct, *wrong_results(arithmetic.result, steps, rng)]
        rng.shuffle(choices)
    else:
        return Problem(identifier, story.question, (), str(arithmetic.result), arithmetic, story.names)
    gold = LETTERS[choices.index(correct)]
    return Problem(identifier, story.question, tuple(choices), gold, arithmetic, story.names)


def stream(split: Split, seed: int | str = 0, *, unique: bool = True, level: Level = SHORT) -> Iterator[Problem]:
    """Endless problems of a split, the same for the same seed; ``unique``: no two with the same structure and numbers.

    There are few problems about small numbers, so an endless stream of unique ones would drift towards large numbers.
    """
    rng = random.Random(f"rlsf.demo:{split}:{seed}")
    seen: set[str] = set()
    count = 0
    while True:
        arithmetic = draw(rng, level)
        if split_of(arithmetic) != split or (unique and arithmetic.canonical in seen):
            continue
        yield _problem(f"{split}-{seed}-{count}", arithmetic, _CHOICE_SHARES[split], rng)
        count += 1
        seen.add(arithmetic.canonical)


def generate(split: Split, count: int, seed: int = 0, level: Level = SHORT) -> list[Problem]:
    """The first ``count`` problems of ``stream(split, seed)`` at a level.

    Raises ``ValueError`` for an unknown split.
    """
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}: use one of {', '.join(get_args(Split))}")
    return list(islice(stream(split, seed, level=level), count))
