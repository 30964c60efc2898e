"""Trainers whose passes read what traces of one prompt have in common once, where that gives the same numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rlsf.training.cut_models import is_cut
from rlsf.training.shared_prefix import SharedPrefix, drops_out, sharing

if TYPE_CHECKING:
    _Trainer = Any  # whichever it is mixed into
else:
    _Trainer = object


class PrefixSharing(_Trainer):
    """Mix into one of TRL's trainers whose loss calls a model with the fused head."""

    _left_padded = False

    @cached_property
    def _sharing(self) -> SharedPrefix | None:
        # A balance of experts would count common tokens once; pieces of a model are not tried on one process alone.
        if self.aux_loss_enabled or is_cut(self):
            return None
        return sharing(self.model, left_padded=self._left_padded)

    @cached_property
    def _dropping_out(self) -> bool:
        return drops_out(self.model)

    def _reader(self, model: Any, prompt: int | None = None) -> Any:
        """``model``, or one that reads common tokens once; ``prompt`` is as in ``SharedPrefix``."""
        if self._sharing is None or (model.training and self._dropping_out):
            return model
        return replace(self._sharing, model=model, prompt=prompt)


class SharedPrompts(PrefixSharing):
    """Mix into ``GRPOTrainer`` or ``RLOOTrainer``, to the left of it.

    In every pass for log-probabilities, those of the loss, of the sampler and of the reference, completions of one
    prompt are read as one row, as many of a group as the pass has. The numbers are TRL's up to rounding, and which rows
    are joined depends on the pass's tokens alone.
    """

    _left_padded = True

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        reader = self._reader(model, prompt=input_ids.size(1) - logits_to_keep)
        return super()._get_per_token_logps_and_entropies(
            reader, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
