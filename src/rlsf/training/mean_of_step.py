"""Trainers whose loss of an optimiser step is the mean over its examples, however they are cut into passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    _Trainer = Any  # whichever it is mixed into
else:
    _Trainer = object


class MeanOfStep(_Trainer):
    """Mix into a trainer, to the left of it; its ``compute_loss`` multiplies the mean over a pass by ``_share``.

    transformers takes the mean of the means of a step's passes. The last pass of an epoch may have fewer examples than
    the others of its step, and each of them would count for more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The loss is divided by what is counted below, never again by the number of passes.
        self.model_accepts_loss_kwargs = True

    def _get_num_items_in_batch(self, batch_samples: Sequence[dict[str, Any]], device: torch.device) -> Tensor:
        """How many rows a step has, in all its passes and processes; a pair has two."""
        own = torch.tensor(sum(len(batch["input_ids"]) for batch in batch_samples), device=device)
        counted: Any = self.accelerator.gather(own)
        return counted.sum()

    def _share(self, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
        """The share of a pass in its step, times the number of processes, which average their gradients.

        1 where no step is known.
        """
        if num_items_in_batch is None:
            return 1.0
        return len(inputs["input_ids"]) / num_items_in_batch * self.accelerator.num_processes
