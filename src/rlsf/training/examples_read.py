"""Which examples a training reads, known before it begins."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlsf.training.reading_order import planned_steps, reading_order, rows_of_step


def examples_read(trainer: Any) -> np.ndarray:
    """The rows of the training data that a trainer will read, ascending; all of them from one whole pass on.

    They are the beginning of the order that the trainer's own sampler gives, which depends on the seed alone; in whole
    optimiser steps of all processes together, so that a resume, however many processes it has, reads the same. Where a
    trainer option asks for an order that is drawn from the state of a random generator, they are all rows.
    """
    examples, order = len(trainer.train_dataset), reading_order(trainer)
    read = planned_steps(trainer.args, examples) * rows_of_step(trainer.args)
    if read >= examples or order is None:
        return np.arange(examples)
    return np.sort(next(order)[:read])
