"""Which examples a training reads, known before it begins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rlsf.training.reading_order import reading_order


def examples_read(trainer: Any) -> np.ndarray:
    """The rows of the training data that a trainer will read, ascending; all of them from one whole pass on.

    They are the beginning of the order that the trainer's own sampler gives, which depends on the seed alone; in whole
    optimiser steps of all processes together, so that a resume, however many processes it has, reads the same. Where a
    trainer option asks for an order that is drawn from the state of a random generator, they are all rows.
    """
    examples = len(trainer.train_dataset)
    steps, of_step = trainer.args.max_steps, trainer.get_total_train_batch_size(trainer.args)
    if steps < 0:
        steps = math.ceil(trainer.args.num_train_epochs * math.ceil(examples / of_step))
    order = reading_order(trainer)
    if steps * of_step >= examples or order is None:
        return np.arange(examples)
    return np.sort(next(order)[: steps * of_step])
