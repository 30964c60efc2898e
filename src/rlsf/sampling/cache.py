"""Key-value caches for rows that fork from shared prompts, grow by one token a step and finish one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, get_layer_types_and_kwargs

#: Tokens by which a full slab grows at least.
_GROWTH = 32


class Slab:
    """States [rows, heads, tokens, dim], written in place into a tensor with room for more tokens.

    Concatenating, as the library's cache does, copies the whole cache at every token.
    """

    def __init__(self, states: Tensor, room: int) -> None:
        self._rows, heads, self._length, dimension = states.shape
        self._data = states.new_empty(self._rows, heads, self._length + room, dimension)
        self._data[:, :, : self._length] = states

    def __len__(self) -> int:
        return self._length

    def append(self, states: Tensor) -> Tensor:
        """Add the states of new tokens to every row; a view of all states."""
        end = self._length + states.shape[2]
        if end > self._data.shape[2]:
            self._grow(end)
        self._data[: self._rows, :, self._length : end] = states
        self._length = end
        return self._data[: self._rows, :, :end]

    def _grow(self, least: int) -> None:
        _, heads, capacity, dimension = self._data.shape
        grown = self._data.new_empty(self._rows, heads, max(least, capacity + max(_GROWTH, capacity // 2)), dimension)
        grown[:, :, : self._length] = self._data[: self._rows, :, : self._length]
        self._data = grown

    def keep(self, sources: Tensor, destinations: Tensor, rows: int) -> None:
        """Copy the rows ``sources`` over ``destinations``, then drop all from number ``rows`` on."""
        if len(sources):
            self._data[destinations, :, : self._length] = self._data[sources, :, : self._length]
        self._rows = rows


class SlabLayer(CacheLayerMixin):
    """One attention layer's cache in two slabs.

    A sliding-window layer keeps all its tokens here too, and the attention mask forgets them.
    """

    is_compileable = False

    def __init__(self, keys: Tensor, values: Tensor, room: int, sliding: bool = False) -> None:
        super().__init__()
        self.is_sliding = sliding
        self.is_initialized = True
        self.dtype, self.device = keys.dtype, keys.device
        self._slabs = (Slab(keys, room), Slab(values, room))

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: a slab is created with its first states."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the newest token's states; views of everything so far."""
        self.keys, self.values = self._slabs[0].append(key_states), self._slabs[1].append(value_states)
        return self.keys, self.values

    def keep(self, sources: Tensor, destinations: Tensor, rows: int) -> None:
        """As ``Slab.keep``."""
        for slab in self._slabs:
            slab.keep(sources, destinations, rows)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys that the mask must cover."""
        return len(self._slabs[0]) + query_length, 0

    def get_seq_length(self) -> int:
        """Cached tokens a row."""
        return len(self._slabs[0])

    def get_max_length(self) -> int:
        """-1: a slab grows."""
        return -1


class SlabCache(Cache):
    """A prefilled cache forked into rows that each own a copy of their prompt's states."""

    def __init__(self, prefilled: Cache, prompts: Tensor, room: int) -> None:
        self._slab_layers = [
            SlabLayer(layer.keys[prompts], layer.values[prompts], room, layer.is_sliding)
            for layer in plain_layers(prefilled)
        ]
        super().__init__(layers=[*self._slab_layers])

    def keep(self, rows: Tensor) -> None:
        """Keep the rows named, in this order; only those that change place are copied."""
        sources, destinations = changed_places(rows)
        for layer in self._slab_layers:
            layer.keep(sources, destinations, len(rows))


def changed_places(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows to keep in a new order, those that move: where from and where to."""
    places = torch.arange(len(rows), device=rows.device)
    moved = rows != places
    return rows[moved], places[moved]


class UnforgettingLayer(DynamicLayer):
    """A sliding-window layer that keeps every token while a prompt is prefilled."""

    is_sliding = True


def prefill_cache(config: PreTrainedConfig) -> Cache | None:
    """An empty cache whose prefilled states can be forked into slabs, or None where some layer is of another kind.

    Plain and sliding-window attention qualify; recurrent, chunked, compressed and indexed layers do not.
    """
    types, _ = get_layer_types_and_kwargs(config.get_text_config(decoder=True))
    kinds = {"full_attention": DynamicLayer, "sliding_attention": UnforgettingLayer}
    if not set(types) <= kinds.keys():
        return None
    return Cache(layers=[kinds[kind]() for kind in types])


def plain_layers(prefilled: Cache) -> list[Any]:
    """The layers of a cache from ``prefill_cache``: tensors ``keys`` and ``values``, flag ``is_sliding``."""
    return list(prefilled.layers)
