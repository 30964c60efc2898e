"""Which prompts are decoded together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Batches whose prompts are sorted by length together; results come out in request order once a window is done.
BATCHES_IN_A_WINDOW = 8
#: Elements of the logits of one forward pass: 256 MiB in float32.
LOGITS = 2**26


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds on one batch. ``rows``: what decodes at once. ``cached_tokens``: rows x length. ``prefill_tokens``:
    prompts x longest prompt.

    With ``shared_prompts`` the rows of a prompt share its states, which then count once.
    """

    rows_per_prompt: int
    new_tokens: int
    rows: int
    cached_tokens: int
    prefill_tokens: int
    mixed_lengths: bool
    shared_prompts: bool

    def prompt_cost(self, length: int) -> int:
        """Cached tokens of one prompt and all its rows."""
        return (1 if self.shared_prompts else self.rows_per_prompt) * length + self.rows_per_prompt * self.new_tokens

    def admits(self, prompts: int, longest: int) -> bool:
        """Whether so many prompts, padded to the longest, fit."""
        return (
            prompts * self.rows_per_prompt <= self.rows
            and prompts * self.prompt_cost(longest) <= self.cached_tokens
            and prompts * longest <= self.prefill_tokens
        )

    def rows_at_once(self, longest: int) -> int:
        """How many rows may decode together where one prompt's alone would exceed the bounds."""
        own = self.new_tokens if self.shared_prompts else longest + self.new_tokens
        return max(1, min(self.rows, self.cached_tokens // own))


def windows(lengths: Sequence[int], limits: BatchLimits) -> Iterator[range]:
    """Consecutive runs of prompts, each of about eight batches."""
    budget = BATCHES_IN_A_WINDOW * limits.cached_tokens
    start, used = 0, 0
    for position, length in enumerate(lengths):
        used += limits.prompt_cost(length)
        if used >= budget:
            yield range(start, position + 1)
            start, used = position + 1, 0
    if start < len(lengths):
        yield range(start, len(lengths))


def batches(window: Sequence[int], lengths: Sequence[int], limits: BatchLimits) -> list[list[int]]:
    """The prompts of a window in batches of similar length, longest first, at least one prompt each.

    Longest first, so that memory runs out at the start of a job if it ever does. Of equally many batches, those of
    equal size: a small batch costs nearly the time of a large one.
    """
    ordered = sorted(window, key=lambda position: -lengths[position])
    fewest = list(_filled(ordered, lengths, limits, len(ordered)))
    if not fewest:
        return []
    equal = list(_filled(ordered, lengths, limits, -(-len(ordered) // len(fewest))))
    return equal if len(equal) == len(fewest) else fewest


def _filled(ordered: Sequence[int], lengths: Sequence[int], limits: BatchLimits, most: int) -> Iterator[list[int]]:
    """Batches of at most so many prompts, each filled before the next is begun."""
    batch: list[int] = []
    for position in ordered:
        if batch:
            longest = lengths[batch[0]]
            alike = limits.mixed_lengths or lengths[position] == longest
            if len(batch) == most or not alike or not limits.admits(len(batch) + 1, longest):
                yield batch
                batch = []
        batch.append(position)
    if batch:
        yield batch
