"""Which prompts a batch of rollouts has, and which of its completions each optimiser step learns from.

TRL draws both from random number generators that a process keeps: the order of prompts in later passes over them is
lost when training is resumed, and every process shuffles its own completions, so that steps differ with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
from trl.trainer.utils import RepeatSampler

from rlsf.sampling.randomness import trace_uniforms


class PassSampler(RepeatSampler):
    """TRL's order of prompts, shuffled anew for each pass over them by the seed and the pass's number alone."""

    def __init__(self, *args: Any, current_pass: Callable[[], int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.current_pass = current_pass

    def __iter__(self) -> Generator[int, Any, None]:
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) + self.current_pass())
        yield from super().__iter__()


def dealing(prompt_ids: list[str], num_generations: int, steps: int, first_row: int, seed: int) -> list[int]:
    """The rows of a process in the order in which they are learned from: those of the first optimiser step first.

    Rows are whole groups of ``num_generations``, one for each of ``prompt_ids``; ``first_row`` is the place of the
    first one among the rows of all processes. The members of a group are shuffled and dealt to the steps in turn, so
    that a step's completions are of as many prompts as possible, and the same however many processes there are.
    """
    piles: list[list[int]] = [[] for _ in range(steps)]
    for group, prompt_id in enumerate(prompt_ids):
        start = group * num_generations
        order = np.argsort(trace_uniforms(seed, prompt_id, (first_row + start) // num_generations, num_generations))
        for place, member in enumerate(order):
            piles[(first_row + start + place) % steps].append(start + int(member))
    return [row for pile in piles for row in pile]


def in_order(batch: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    """The columns of a batch with the rows in this order; numbers of the whole batch stay."""
    index = torch.tensor(rows)

    def ordered(column: Any) -> Any:
        if isinstance(column, torch.Tensor):
            return column[index.to(column.device)] if column.ndim else column
        return None if column is None else [column[row] for row in rows]

    return {name: ordered(column) for name, column in batch.items()}
