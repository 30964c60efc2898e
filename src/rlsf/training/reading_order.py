"""In which order a training reads its examples, known before it begins."""

from __future__ import annotations

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


def _shuffled(sampler: SeedableRandomSampler, epoch: int, rows: int) -> np.ndarray:
    sampler.set_epoch(epoch)
    return np.fromiter(sampler, dtype=np.int64, count=rows)
