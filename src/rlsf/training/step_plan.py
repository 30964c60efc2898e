"""How many tokens each optimiser step over known examples reads, before the training begins."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from rlsf.training.pairs import REJECTED_PROMPT, lengths
from rlsf.training.reading_order import planned_steps, reading_order, rows_of_epoch, rows_of_step
from rlsf.training.spending import Allowance, PlannedSpending


def plan_spending(trainer: Any, start: Path | None, allowance: Allowance) -> PlannedSpending:
    """What the steps of ``trainer`` take; where they take more than allowed, the training is planned for fewer.

    The learning rate then follows the shorter plan. Raises ``InputError`` where not even one step fits.
    """
    rows = row_tokens(trainer.train_dataset)
    steps, batch = planned_steps(trainer.args, len(rows)), rows_of_step(trainer.args)
    after = [0]
    for tokens in islice(step_tokens(rows, orders(trainer, rows), batch), steps):
        allowed = allowance.training_tokens
        if allowed is not None and after[-1] + tokens > allowed:
            if len(after) == 1:
                allowance.require("training_tokens", tokens, "the first optimiser step")
            trainer.args.max_steps = len(after) - 1
            break
        after.append(after[-1] + tokens)
    return PlannedSpending(allowance, after=after).restore(start)


def row_tokens(dataset: Dataset) -> np.ndarray:
    """Tokens of each row: a sequence, or both sides of a pair, each with its prompt."""
    columns = set(dataset.column_names)
    if "input_ids" in columns:
        return lengths(dataset.data, "input_ids")
    sides = lengths(dataset.data, "chosen_ids") + lengths(dataset.data, "rejected_ids")
    if "prompt_ids" not in columns:  # they stand before each side already
        return sides
    rejected_prompt = REJECTED_PROMPT if REJECTED_PROMPT in columns else "prompt_ids"
    return sides + lengths(dataset.data, "prompt_ids") + lengths(dataset.data, rejected_prompt)


def step_tokens(rows: np.ndarray, orders: Iterator[np.ndarray], batch: int) -> Iterator[int]:
    """Tokens of each optimiser step, epoch after epoch; the last step of an epoch may have fewer rows than ``batch``.

    ``orders`` are the numbers of the rows of each epoch, in the order in which they are seen.
    """
    for order in orders:
        tokens = rows[order]
        yield from (int(tokens[start : start + batch].sum()) for start in range(0, len(tokens), batch))


def orders(trainer: Any, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows that each epoch reads, in its order; where that is not known, the longest come first: a bound."""
    known = reading_order(trainer) or repeat(np.argsort(-rows, kind="stable"))
    return (order[: rows_of_epoch(trainer.args, len(rows))] for order in known)
