"""How many tokens each optimiser step over known examples reads, before the training begins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from rlsf.training.pairs import REJECTED_PROMPT
from rlsf.training.reading_order import reading_order
from rlsf.training.spending import Allowance, PlannedSpending


def plan_spending(trainer: Any, start: Path | None, allowance: Allowance) -> PlannedSpending:
    """What the steps of ``trainer`` take; where they take more than allowed, the training is planned for fewer.

    The learning rate then follows the shorter plan. Raises ``InputError`` where not even one step fits.
    """
    rows = row_tokens(trainer.train_dataset)
    batch = _rows_of_step(trainer.args)
    steps = _planned_steps(trainer.args, len(rows)) if _rows_of_epoch(trainer.args, len(rows)) else 0
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
        return _lengths(dataset, "input_ids")
    sides = _lengths(dataset, "chosen_ids") + _lengths(dataset, "rejected_ids")
    if "prompt_ids" not in columns:  # they stand before each side already
        return sides
    rejected_prompt = REJECTED_PROMPT if REJECTED_PROMPT in columns else "prompt_ids"
    return sides + _lengths(dataset, "prompt_ids") + _lengths(dataset, rejected_prompt)


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
    return (order[: _rows_of_epoch(trainer.args, len(rows))] for order in known)


def _planned_steps(args: Any, rows: int) -> int:
    if args.max_steps > 0:
        return args.max_steps
    return math.ceil(args.num_train_epochs * math.ceil(_rows_of_epoch(args, rows) / _rows_of_step(args)))


def _rows_of_step(args: Any) -> int:
    return _rows_of_pass(args) * args.gradient_accumulation_steps


def _rows_of_epoch(args: Any, rows: int) -> int:
    return rows - rows % _rows_of_pass(args) if args.dataloader_drop_last else rows


def _rows_of_pass(args: Any) -> int:
    return args.per_device_train_batch_size * max(1, args.world_size)


def _lengths(dataset: Dataset, name: str) -> np.ndarray:
    return pc.list_value_length(dataset.data.column(name)).to_numpy().astype(np.int64)  # pyright: ignore
