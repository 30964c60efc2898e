"""A key-value cache for rows that fork from shared prompts, grow by one token a step and finish one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, get_layer_types_and_kwargs

#: Tokens by which a full slab grows at least.
_GROWTH = 32


class SlabLayer(CacheLayerMixin):
    """Keys and values of one layer in a slab [rows, heads, capacity, dim] that is written in place.

    The library's own layer concatenates a whole new cache at every token. A sliding-window layer keeps all its
    tokens here, and the mask forgets them.
    """

    is_compileable = False

    def __init__(self, keys: Tensor, values: Tensor, rows: Tensor, room: int, sliding: bool) -> None:
        super().__init__()
        self.is_sliding = sliding
        self.is_initialized = True
        self.dtype, self.device = keys.dtype, keys.device
        self._length = keys.shape[2]
        self._rows = len(rows)
        self._key_slab = self._slab(keys, rows, room)
        self._value_slab = self._slab(values, rows, room)

    @staticmethod
    def _slab(states: Tensor, rows: Tensor, room: int) -> Tensor:
        _, heads, length, dimension = states.shape
        slab = states.new_empty(len(rows), heads, length + room, dimension)
        slab[:, :, :length] = states[rows]
        return slab

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: a slab is created with its prompt."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the newest token's states; views of everything so far."""
        end = self._length + key_states.shape[2]
        if end > self._key_slab.shape[2]:
            self._key_slab = self._grown(self._key_slab, end)
            self._value_slab = self._grown(self._value_slab, end)
        self._key_slab[: self._rows, :, self._length : end] = key_states
        self._value_slab[: self._rows, :, self._length : end] = value_states
        self._length = end
        self.keys = self._key_slab[: self._rows, :, :end]
        self.values = self._value_slab[: self._rows, :, :end]
        return self.keys, self.values

    def _grown(self, slab: Tensor, least: int) -> Tensor:
        _, heads, length, dimension = slab.shape
        grown = slab.new_empty(self._rows, heads, max(least, length + max(_GROWTH, length // 2)), dimension)
        grown[:, :, :length] = slab[: self._rows]
        return grown

    def move(self, sources: Tensor, destinations: Tensor, rows: int) -> None:
        """Copy rows over others, then drop all from number ``rows`` on."""
        if len(sources):
            for slab in (self._key_slab, self._value_slab):
                slab[destinations, :, : self._length] = slab[sources, :, : self._length]
        self._rows = rows

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys that the mask must cover."""
        return self._length + query_length, 0

    def get_seq_length(self) -> int:
        """Cached tokens a row."""
        return self._length

    def get_max_length(self) -> int:
        """-1: a slab grows."""
        return -1


class UnforgettingLayer(DynamicLayer):
    """A sliding-window layer that keeps every token while a prompt is prefilled."""

    is_sliding = True


class SlabCache(Cache):
    """One slab for every layer of a prefilled cache."""

    def __init__(self, prefilled: Cache, rows: Tensor, room: int) -> None:
        prompts: list[Any] = prefilled.layers
        self._slabs = [SlabLayer(layer.keys, layer.values, rows, room, layer.is_sliding) for layer in prompts]
        super().__init__(layers=[*self._slabs])

    def keep(self, rows: Tensor) -> None:
        """Keep the rows named, in this order; only those that change place are copied."""
        places = torch.arange(len(rows), device=rows.device)
        moved = rows != places
        sources, destinations = rows[moved], places[moved]
        for slab in self._slabs:
            slab.move(sources, destinations, len(rows))


def prefill_cache(config: PreTrainedConfig) -> Cache | None:
    """An empty cache whose prefilled states a ``SlabCache`` can fork, or None where some layer is of another kind.

    Plain and sliding-window attention qualify; recurrent, chunked, compressed and indexed layers do not.
    """
    types, _ = get_layer_types_and_kwargs(config.get_text_config(decoder=True))
    slabs = {"full_attention": DynamicLayer, "sliding_attention": UnforgettingLayer}
    if not set(types) <= slabs.keys():
        return None
    return Cache(layers=[slabs[kind]() for kind in types])
