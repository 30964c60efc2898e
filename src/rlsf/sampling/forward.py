"""A transformers model seen as next-token logits: prefill prompts once, fork them into rows, step, drop rows.

Three kinds of rows, the best that the model allows:

- *branches* share the states of their prompt (``rlsf.sampling.branches``): models whose layers are all plain
  attention, once a comparison on the model itself has shown the same logits;
- *copies* own a copy of them, in slabs or, for recurrent and other special layers, in the library's cache;
- *uncached* rows are read from the start at every step: models without a cache.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, LinearAttentionCacheLayerMixin

from rlsf.linear import fast_linears
from rlsf.models import context_length
from rlsf.sampling.branches import BranchCache, branching
from rlsf.sampling.cache import SlabCache, UnforgettingLayer, prefill_cache
from rlsf.sampling.padding import PaddedPrompts

#: New tokens for which a slab has room from the start; it grows when they are used up.
_ROOM = 48

_log = logging.getLogger(__name__)
_branching_verdicts: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


class Rows(Protocol):
    """Sequences that grow together, one token a step."""

    def step(self, ids: Tensor) -> Tensor:
        """Append a token to every row, [n]; the logits of the next one, [n, V]."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Drop every row not named; row i is then the former row ``rows[i]``."""
        ...


class CausalModel:
    """What the decoding loop needs to know of a model: its forward's options, cache and vocabulary."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        unwrap: Any = getattr(model, "get_base_model", lambda: model)  # a PEFT wrapper hides the signature
        architecture = type(unwrap())
        self.name = architecture.__name__
        self._options = frozenset(inspect.signature(architecture.forward).parameters)
        self._cache_option = next((name for name in ("past_key_values", "cache_params") if name in self._options), None)
        self.has_plain_cache = self._cache_option == "past_key_values" and prefill_cache(model.config) is not None
        self.mixed_lengths = {"attention_mask", "position_ids"} <= self._options and not self._is_recurrent()
        self.last_logits_only = "logits_to_keep" in self._options
        self.device = model.device
        self.vocabulary_size: int = model.config.get_text_config(decoder=True).vocab_size

    @property
    def context_length(self) -> int | None:
        """Most tokens of a sequence, None where the model has no positions to run out of."""
        return context_length(self.model)

    @property
    def turning_length(self) -> int | None:
        """Tokens beyond which all positions of a sequence turn otherwise (LongRoPE, arXiv 2402.13753); None: never."""
        parameters = getattr(self.model.config.get_text_config(decoder=True), "rope_parameters", None) or {}
        kinds = [kind for kind in (parameters, *parameters.values()) if isinstance(kind, dict)]
        long = [kind for kind in kinds if kind.get("rope_type") == "longrope"]
        return min((kind["original_max_position_embeddings"] for kind in long), default=None)

    def _is_recurrent(self) -> bool:
        if self.has_plain_cache:
            return False
        layers = DynamicCache(config=self.model.config).layers if self._cache_option else []
        return not layers or any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)

    def can_branch(self) -> bool:
        """Whether rows may share their prompt's states: tried once on the model itself, against copies."""
        if self.model not in _branching_verdicts:
            _branching_verdicts[self.model] = self._try_branching()
        return _branching_verdicts[self.model]

    def _try_branching(self) -> bool:
        cache = prefill_cache(self.model.config)
        usual = self.model.config._attn_implementation
        if not self.has_plain_cache or cache is None or usual not in ("sdpa", "eager"):
            return False
        if any(isinstance(layer, UnforgettingLayer) or not isinstance(layer, DynamicLayer) for layer in cache.layers):
            return False
        tokens = torch.arange(6, device=self.device) % self.vocabulary_size
        prefix = self.prefill_cached([tokens[:4].tolist(), tokens[4:].tolist()])
        rows = torch.tensor([0, 0, 1], device=self.device)
        try:
            branched = _trial(prefix.branches(rows, 2), tokens[1:4])
        except (NotImplementedError, TypeError, RuntimeError) as reason:
            _log.info("%s cannot share prompts between branches: %s", self.name, reason)
            return False
        copied = _trial(prefix.copies(rows, 2), tokens[1:4])
        tolerance = 1e-3 if copied.dtype == torch.float32 else 5e-2
        return bool(((branched - copied).abs().max() <= tolerance * (1 + copied.abs().max())).item())

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Prefix:
        """One forward pass over the prompts; equally long ones unless ``mixed_lengths``."""
        if self._cache_option is None:
            return _UncachedPrefix(self, PaddedPrompts.of(prompts, self.device))
        return self.prefill_cached(prompts)

    def prefill_cached(self, prompts: Sequence[Sequence[int]]) -> CachedPrefix:
        """The same for a model with a cache."""
        padded = PaddedPrompts.of(prompts, self.device)
        cache = prefill_cache(self.model.config) if self.has_plain_cache else DynamicCache(config=self.model.config)
        assert cache is not None
        logits = self.logits(padded.ids, padded.visible, padded.positions, cache)
        return CachedPrefix(self, padded, cache, logits)

    def logits(
        self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Cache | None, **options: Any
    ) -> Tensor:
        """Logits after the last token of every row, [n, V]."""
        if self.last_logits_only:
            options["logits_to_keep"] = 1
        return self.read(ids, mask, positions, cache, **options)[:, -1]

    def read(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Cache | None = None,
        **options: Any,
    ) -> Tensor:
        """One forward pass over ``ids`` [n, t]: the logits that it returns, [n, t, V] unless ``options`` say otherwise.

        Without ``mask`` and ``positions`` every row starts in the first column. What stands after its end is then seen
        by no token before it.
        """
        if "use_cache" in self._options:
            options["use_cache"] = cache is not None
        if mask is not None:
            options["attention_mask"] = mask
        if positions is not None and "position_ids" in self._options:
            options["position_ids"] = positions
        if cache is not None and self._cache_option is not None:
            options[self._cache_option] = cache
        return self.model(input_ids=ids, **options).logits

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, no dropout, fast products; never to be held over a yield: a caller may train in between.

        Not inference mode: buffers that a model caches meanwhile (some rotary embeddings) could not be trained with.
        """
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        try:
            with torch.no_grad(), fast_linears(self.model):
                yield
        finally:
            for module in training:
                module.training = True


class Prefix(Protocol):
    """Prompts whose forward pass is done."""

    @property
    def logits(self) -> Tensor:
        """Logits of the first new token, [P, V]."""
        ...

    @contextmanager
    def fork(self, prompts: Tensor, new_tokens: int) -> Iterator[Rows]:
        """Rows that continue the prompts named (with repeats), [n], by at most so many tokens."""
        ...


def _trial(rows: Any, ids: Tensor) -> Tensor:
    with rows as opened:
        opened.step(ids)
        opened.keep(torch.tensor([0, 2], device=ids.device))
        return opened.step(ids[:2])


class CachedPrefix:
    """Prompts whose states are cached."""

    def __init__(self, model: CausalModel, prompts: PaddedPrompts, cache: Cache, logits: Tensor) -> None:
        self.logits = logits
        self._model, self._prompts, self._cache = model, prompts, cache

    @contextmanager
    def fork(self, prompts: Tensor, new_tokens: int) -> Iterator[Rows]:
        kind = self.branches if self._model.can_branch() else self.copies
        with kind(prompts, new_tokens) as rows:
            yield rows

    @contextmanager
    def branches(self, prompts: Tensor, new_tokens: int) -> Iterator[Rows]:
        """Rows that share the states of their prompts."""
        cache = BranchCache(self._cache, prompts, self._prompts.visible, min(new_tokens, _ROOM))
        with branching(self._model.model):
            yield _BranchRows(self._model, cache, self._prompts.lengths[prompts])

    @contextmanager
    def copies(self, prompts: Tensor, new_tokens: int, room: int = _ROOM) -> Iterator[CopiedRows]:
        """Rows that own a copy of their prompt's states, with ``room`` for new tokens from the start."""
        if self._model.has_plain_cache:
            cache: Cache = SlabCache(self._cache, prompts, min(new_tokens, room))
        else:
            cache = copy.deepcopy(self._cache)
            cache.reorder_cache(cast(torch.LongTensor, prompts))
        mask = self._prompts.visible
        if mask is not None:
            mask = torch.cat([mask[prompts], mask.new_ones(len(prompts), new_tokens)], dim=1)
        yield CopiedRows(self._model, cache, mask, self._prompts.lengths[prompts], self._prompts.ids.shape[1])


class _BranchRows:
    def __init__(self, model: CausalModel, cache: BranchCache, lengths: Tensor) -> None:
        self._model, self._cache = model, cache
        self._positions = lengths.unsqueeze(1)

    def step(self, ids: Tensor) -> Tensor:
        logits = self._model.logits(ids.unsqueeze(1), None, self._positions, self._cache, branches=self._cache)
        self._positions = self._positions + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        self._cache.keep(rows)
        self._positions = self._positions[rows]


class CopiedRows:
    """Rows that own the states of their prompts."""

    def __init__(self, model: CausalModel, cache: Cache, mask: Tensor | None, lengths: Tensor, width: int) -> None:
        self._model, self._cache, self._mask = model, cache, mask
        self._positions, self._width = lengths.unsqueeze(1), width

    def step(self, ids: Tensor) -> Tensor:
        """As ``Rows.step``."""
        return self.read(ids.unsqueeze(1))[:, -1]

    def read(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Append t tokens to every row, [n, t]; the logits after each, [n, t, V].

        What stands after the first ``lengths`` [n] of them is padding, after which no row can go on. It repeats the
        last position: others might be none that the model has.
        """
        new = ids.shape[1]
        self._width += new
        mask = None if self._mask is None else self._mask[:, : self._width]
        places = torch.arange(new, device=ids.device)
        if lengths is not None:
            places = torch.minimum(places, (lengths - 1).clamp(min=0).unsqueeze(1))
        positions = self._positions + places
        self._positions = self._positions + new
        return self._model.read(ids, mask, positions, self._cache)

    def keep(self, rows: Tensor) -> None:
        """As ``Rows.keep``."""
        if isinstance(self._cache, SlabCache):
            self._cache.keep(rows)
        else:
            self._cache.reorder_cache(cast(torch.LongTensor, rows))
        self._positions = self._positions[rows]
        if self._mask is not None:
            self._mask = self._mask[rows]


class _UncachedPrefix:
    def __init__(self, model: CausalModel, prompts: PaddedPrompts) -> None:
        self._model, self._prompts = model, prompts
        self.logits = model.logits(prompts.ids, None, prompts.positions, None)

    @contextmanager
    def fork(self, prompts: Tensor, new_tokens: int) -> Iterator[Rows]:
        yield _UncachedRows(self._model, self._prompts.ids[prompts])


class _UncachedRows:
    def __init__(self, model: CausalModel, ids: Tensor) -> None:
        self._model, self._ids = model, ids

    def step(self, ids: Tensor) -> Tensor:
        self._ids = torch.cat([self._ids, ids.unsqueeze(1)], dim=1)
        positions = torch.arange(self._ids.shape[1], device=self._ids.device).expand_as(self._ids)
        return self._model.logits(self._ids, None, positions, None)

    def keep(self, rows: Tensor) -> None:
        self._ids = self._ids[rows]
