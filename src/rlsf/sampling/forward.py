"""A transformers model seen as next-token logits: prefill prompts once, fork them into rows, step, drop rows."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, LinearAttentionCacheLayerMixin

from rlsf.sampling.cache import SlabCache, prefill_cache

#: New tokens for which a slab has room from the start; it grows when they are used up.
_ROOM = 64


class Rows(Protocol):
    """Sequences that grow together, one token a step."""

    def step(self, ids: Tensor) -> Tensor:
        """Append a token to every row, [n]; the logits of the next one, [n, V]."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Drop every row not named; row i is then the former row ``rows[i]``."""
        ...


class Prefix(Protocol):
    """Prompts whose forward pass is done."""

    @property
    def logits(self) -> Tensor:
        """Logits of the first new token, [P, V]."""
        ...

    def fork(self, prompts: Tensor, new_tokens: int) -> Rows:
        """Rows that continue the prompts named (with repeats), [n], by at most so many tokens."""
        ...


@dataclass(frozen=True, slots=True)
class _PaddedPrompts:
    """Left-padded prompts: ids, mask [P, L], and how many real tokens each has, [P]."""

    ids: Tensor
    mask: Tensor
    lengths: Tensor

    @property
    def positions(self) -> Tensor:
        return (self.mask.cumsum(-1) - 1).clamp_(min=0)

    @property
    def padded(self) -> bool:
        return bool((self.lengths < self.ids.shape[1]).any())


class CausalModel:
    """What the decoding loop needs to know of a model: its forward's options, cache and vocabulary."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        unwrap: Any = getattr(model, "get_base_model", lambda: model)  # a PEFT wrapper hides the signature
        base = unwrap()
        self._options = frozenset(inspect.signature(type(base).forward).parameters)
        self._cache_option = next((name for name in ("past_key_values", "cache_params") if name in self._options), None)
        self.forks_into_slabs = self._cache_option == "past_key_values" and prefill_cache(model.config) is not None
        self.mixed_lengths = {"attention_mask", "position_ids"} <= self._options and not self._recurrent()
        self.last_logits_only = "logits_to_keep" in self._options
        self.device = model.device

    @property
    def vocabulary_size(self) -> int:
        """Columns of the logits."""
        return self._model.config.get_text_config(decoder=True).vocab_size

    @property
    def context_length(self) -> int | None:
        """Most tokens of a sequence, None where the model has no positions to run out of."""
        return getattr(self._model.config.get_text_config(decoder=True), "max_position_embeddings", None)

    def _recurrent(self) -> bool:
        if self.forks_into_slabs:
            return False
        layers = DynamicCache(config=self._model.config).layers if self._cache_option else []
        return not layers or any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Prefix:
        """One forward pass over the prompts; equally long ones unless ``mixed_lengths``."""
        padded = self._pad(prompts)
        if self._cache_option is None:
            return _UncachedPrefix(self, padded)
        cache = prefill_cache(self._model.config) if self.forks_into_slabs else DynamicCache(config=self._model.config)
        assert cache is not None
        mask = padded.mask if padded.padded else None
        logits = self.logits(padded.ids, mask, padded.positions, cache)
        return _CachedPrefix(self, padded, cache, logits)

    def _pad(self, prompts: Sequence[Sequence[int]]) -> _PaddedPrompts:
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        longest = int(lengths.max())
        # Any id does for padding: the mask hides it, whether or not the tokenizer has a padding token.
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = (torch.arange(longest) >= longest - lengths.unsqueeze(1)).long()
        return _PaddedPrompts(ids.to(self.device), mask.to(self.device), lengths.to(self.device))

    def logits(self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Cache | None) -> Tensor:
        """Logits after the last token of every row, [n, V]."""
        options: dict[str, Any] = {"use_cache": cache is not None}
        if mask is not None:
            options["attention_mask"] = mask
        if "position_ids" in self._options:
            options["position_ids"] = positions
        if self.last_logits_only:
            options["logits_to_keep"] = 1
        if cache is not None and self._cache_option is not None:
            options[self._cache_option] = cache
        return self._model(input_ids=ids, **options).logits[:, -1]


class _CachedPrefix:
    def __init__(self, model: CausalModel, prompts: _PaddedPrompts, cache: Cache, logits: Tensor) -> None:
        self.logits = logits
        self._model, self._prompts, self._cache = model, prompts, cache

    def fork(self, prompts: Tensor, new_tokens: int) -> Rows:
        if self._model.forks_into_slabs:
            cache: Cache = SlabCache(self._cache, prompts, min(new_tokens, _ROOM))
        else:
            cache = copy.deepcopy(self._cache)
            cache.reorder_cache(cast(torch.LongTensor, prompts))
        mask = None
        if self._prompts.padded:
            mask = self._prompts.mask.new_ones(len(prompts), self._prompts.ids.shape[1] + new_tokens)
            mask[:, : self._prompts.ids.shape[1]] = self._prompts.mask[prompts]
        return _CachedRows(self._model, cache, mask, self._prompts.lengths[prompts], self._prompts.ids.shape[1])


class _CachedRows:
    def __init__(self, model: CausalModel, cache: Cache, mask: Tensor | None, lengths: Tensor, width: int) -> None:
        self._model, self._cache, self._mask = model, cache, mask
        self._positions, self._width = lengths.unsqueeze(1), width

    def step(self, ids: Tensor) -> Tensor:
        self._width += 1
        mask = None if self._mask is None else self._mask[:, : self._width]
        logits = self._model.logits(ids.unsqueeze(1), mask, self._positions, self._cache)
        self._positions = self._positions + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        if isinstance(self._cache, SlabCache):
            self._cache.keep(rows)
        else:
            self._cache.reorder_cache(cast(torch.LongTensor, rows))
        self._positions = self._positions[rows]
        if self._mask is not None:
            self._mask = self._mask[rows]


class _UncachedPrefix:
    """For models without a cache that can fork: every step reads its rows from the start."""

    def __init__(self, model: CausalModel, prompts: _PaddedPrompts) -> None:
        self._model, self._prompts = model, prompts
        self.logits = model.logits(prompts.ids, None, prompts.positions, None)

    def fork(self, prompts: Tensor, new_tokens: int) -> Rows:
        return _UncachedRows(self._model, self._prompts.ids[prompts])


class _UncachedRows:
    def __init__(self, model: CausalModel, ids: Tensor) -> None:
        self._model, self._ids = model, ids

    def step(self, ids: Tensor) -> Tensor:
        self._ids = torch.cat([self._ids, ids.unsqueeze(1)], dim=1)
        positions = torch.arange(self._ids.shape[1], device=self._ids.device).expand_as(self._ids)
        return self._model.logits(self._ids, None, positions, None)

    def keep(self, rows: Tensor) -> None:
        self._ids = self._ids[rows]
