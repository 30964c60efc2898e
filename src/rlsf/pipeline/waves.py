"""Prompts taken in their order, as far as a cap on tokens goes, many at once."""

from __future__ import annotations

from collections.abc import Iterator

from rlsf.recipes.recipe import Recipe
from rlsf.sampling.config import SamplingConfig


def most_tokens(recipe: Recipe, sampling: SamplingConfig, traces: int | None = None) -> int:
    """The most tokens that a prompt's traces can have, with the answers that are asked for after them."""
    answer = recipe.answer
    asked = answer.elicited_tokens if answer.format == "elicited" else 0
    return (sampling.branches if traces is None else traces) * (sampling.max_new_tokens + asked)


class Waves:
    """Takes things in their order, as many at once as are sure to fit what is left.

    A thing is taken if and only if what those before it have cost and the most that it can cost do not exceed the cap
    together. How many are taken depends on the costs alone, for those of a wave fit whatever they come to.
    """

    def __init__(self, count: int, cap: int | None, most: int) -> None:
        self.count, self.cap, self.most = count, cap, most
        self.taken = self.cost = 0

    def __iter__(self) -> Iterator[int]:
        """The number of things of each wave; ``pay`` for them before the next one is asked for."""
        while wave := self._next():
            self.taken += wave
            yield wave

    def pay(self, cost: int) -> None:
        """What the things of the last wave cost."""
        self.cost += cost

    def _next(self) -> int:
        remaining = self.count - self.taken
        return remaining if self.cap is None else min(remaining, max(0, self.cap - self.cost) // self.most)
