"""Teacher forcing: forward passes over sequences that exist, and what is measured of the tokens asked for.

The token at position t is scored by the distribution at t - 1, the one that produced it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic

import torch
from torch import Tensor, nn

from rlsf.errors import ModelError
from rlsf.sampling.batching import LOGITS
from rlsf.sampling.forward import CausalModel
from rlsf.scoring.measures import Columns, Measure, joined
from rlsf.scoring.output_head import PostProcessing, UnknownHead, captured_states
from rlsf.tokenstats.head import OutputHead


class NotFinite(ModelError):
    """A distribution of row ``row`` holds NaN or infinity."""

    def __init__(self, row: int) -> None:
        super().__init__(f"the distributions of row {row} are not finite")
        self.row = row


class LogitsReader(Generic[Columns]):
    """Reads through the model's own logits, in pieces whose logits fit in 256 MiB where the model allows it."""

    def __init__(self, causal: CausalModel, measure: Measure[Columns]) -> None:
        self._causal, self._measure = causal, measure

    def columns(self, ids: Tensor, keep: Tensor) -> Columns:
        """What is measured of the tokens selected by ``keep`` [n, T] of right-padded ``ids`` [n, T], row by row."""
        return joined([self._piece(ids[rows], keep[rows], places) for rows, places in self._pieces(keep)])

    def _pieces(self, keep: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Some rows and the places of all their selected tokens, or one row and some of the places."""
        wanted = keep.any(0).nonzero().squeeze(1)
        width = len(wanted) if self._causal.last_logits_only else keep.shape[1]
        rows = max(1, LOGITS // (width * self._causal.vocabulary_size))
        for start in range(0, len(keep), rows):
            window = slice(start, start + rows)
            wanted = keep[window].any(0).nonzero().squeeze(1)
            alone = rows == 1 and self._causal.last_logits_only
            places = LOGITS // self._causal.vocabulary_size if alone else len(wanted)
            yield from ((window, some) for some in wanted.split(max(1, places)))

    def _piece(self, ids: Tensor, keep: Tensor, places: Tensor) -> Columns:
        inputs = ids[:, : int(places[-1])]
        if self._causal.last_logits_only:
            logits = self._causal.read(inputs, logits_to_keep=places - 1)
        else:
            logits = self._causal.read(inputs)[:, places - 1]
        chosen = keep[:, places]
        selected = logits[chosen]
        # The largest is NaN where any is; a masked token (-inf) is no fault, a row without any other is.
        _require_finite(selected.amax(-1).isfinite(), chosen)
        return self._measure.of_logits(selected, ids[:, places][chosen])


class FusedReader(Generic[Columns]):
    """Reads through hidden states and the output embedding: logits are never in memory."""

    def __init__(
        self, causal: CausalModel, layer: nn.Linear, post_processing: PostProcessing, measure: Measure[Columns]
    ) -> None:
        self.layer, self.post_processing, self.measure = layer, post_processing, measure
        self._causal, self._head = causal, post_processing.head_of(layer)

    def columns(self, ids: Tensor, keep: Tensor) -> Columns:
        """What is measured of the tokens selected by ``keep`` [n, T] of right-padded ``ids`` [n, T], row by row."""
        with captured_states(self.layer) as states:
            self._causal.read(ids[:, :-1])
        return self.columns_of(only_states(states, len(ids)), ids[:, 1:], keep[:, 1:])

    def share(self, prompts: Sequence[Sequence[int]]) -> SharedPrompts[Columns]:
        """Prompts read once for all their completions; equally long ones unless the model can mix lengths."""
        return SharedPrompts(self, self._causal, prompts)

    def columns_of(self, hidden: Tensor, ids: Tensor, keep: Tensor) -> Columns:
        """What is measured of selected tokens of ``ids`` [n, T], which the states ``hidden`` [n, T, d] produced."""
        states = hidden[keep]
        _require_finite(states.isfinite().all(-1), keep)
        return self.measure.of_hidden(states, self._output_head(), ids[keep])

    def _output_head(self) -> OutputHead:
        """Kept while the layer's weights are the same tensor: it remembers what it has computed of them."""
        if self._head.weight is not self.layer.weight:
            self._head = self.post_processing.head_of(self.layer)
        return self._head


class SharedPrompts(Generic[Columns]):
    """Prompts whose states are cached, and the last hidden state of each, which produces first tokens."""

    def __init__(self, reader: FusedReader[Columns], causal: CausalModel, prompts: Sequence[Sequence[int]]) -> None:
        self._reader, self._causal = reader, causal
        with captured_states(reader.layer) as states:
            self._prefix = causal.prefill_cached(prompts)
        self._last = only_states(states, len(prompts))[:, -1:]

    def columns(self, prompts: Tensor, ids: Tensor, keep: Tensor) -> Columns:
        """What is measured of the tokens selected by ``keep`` [n, T] of right-padded completions ``ids`` [n, T].

        ``prompts`` [n]: the number of the prompt that each continues.
        """
        hidden, new = self._last[prompts], ids.shape[1] - 1
        if new:
            with captured_states(self._reader.layer) as states, self._prefix.copies(prompts, new, room=new) as rows:
                ends = (keep * torch.arange(1, new + 2, device=keep.device)).amax(1)
                rows.read(ids[:, :-1], lengths=ends - 1)
            hidden = torch.cat([hidden, only_states(states, len(ids))], dim=1)
        return self._reader.columns_of(hidden, ids, keep)


def only_states(states: list[Tensor], rows: int) -> Tensor:
    """What the last layer was given in its only call, [n, T, d]; ``UnknownHead`` where it was not called so."""
    if len(states) != 1 or states[0].dim() != 3 or len(states[0]) != rows:
        shapes = [list(state.shape) for state in states]
        raise UnknownHead(f"its output embedding was given states of the shapes {shapes} for {rows} rows")
    return states[0]


def _require_finite(finite: Tensor, keep: Tensor) -> None:
    """``finite`` [N] speaks of the places selected by ``keep`` [n, T]."""
    if not finite.all():
        rows = keep.nonzero()[:, 0]
        raise NotFinite(int(rows[~finite][0]))
