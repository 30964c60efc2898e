"""In which order a training reads its examples, and how many, known before it begins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import SequentialSampler


def reading_order(trainer: Any) -> Iterator[np.ndarray] | None:
    """The numbers of all rows in the order of each epoch, without end, as the trainer's own sampler gives them.

    None where a trainer option asks for an order that is drawn from the state of a random generator.
    """
    with torch.random.fork_rng():
        batches: Any = trainer.get_train_dataloader().batch_sampler
    while hasattr(batches, "batch_sampler"):  # below the division among processes
        batches = batches.batch_sampler
    sampler, rows = getattr(batches, "sampler", None), len(trainer.train_dataset)
    if isinstance(sampler, SeedableRandomSampler):
        return (_shuffled(sampler, epoch, rows) for epoch in count())
    if isinstance(sampler, SequentialSampler):
        return (np.arange(rows) for _ in count())
    return None


def planned_steps(args: Any, rows: int) -> int:
    """The optimiser steps of a training on so many rows; 0 where not one pass is whole."""
    if not rows_of_epoch(args, rows):
        return 0
    if args.max_steps > 0:
        return args.max_steps
    return math.ceil(args.num_train_epochs * math.ceil(rows_of_epoch(args, rows) / rows_of_step(args)))


def rows_of_epoch(args: Any, rows: int) -> int:
    """The rows that an epoch reads."""
    return rows - rows % _rows_of_pass(args) if args.dataloader_drop_last else rows


def rows_of_step(args: Any) -> int:
    """The rows of an optimiser step, of all processes together."""
    return _rows_of_pass(args) * args.gradient_accumulation_steps


def _rows_of_pass(args: Any) -> int:
    return args.per_device_train_batch_size * max(1, args.world_size)


def _shuffled(sampler: SeedableRandomSampler, epoch: int, rows: int) -> np.ndarray:
    sampler.set_epoch(epoch)
    return np.fromiter(sampler, dtype=np.int64, count=rows)
