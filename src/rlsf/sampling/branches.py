"""Attention of many rows over few shared prompts: the prompt's keys are read once for all its branches.

K branches of a prompt attend to the same prompt states, so their queries make one matrix product with them instead
of K matrix-vector products over K copies. Each row's own new tokens are attended to separately, and one softmax
goes over both. Plugged into transformers through its registry of attention functions, for the decoding steps only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache

from rlsf.sampling.cache import SlabLayer, changed_places, plain_layers

_NAME = "rlsf_branches"


class Grid:
    """Where each row sits in a grid of prompts x branches. Slots of finished rows stay empty until a regrid."""

    def __init__(self, prompts: Tensor) -> None:
        """``prompts``: the prompt that each row continues, [n]."""
        self.arrange(prompts)

    def arrange(self, prompts: Tensor) -> Tensor:
        """Lay the rows out anew, without the prompts that no row continues; the prompts that remain."""
        remaining, prompts, counts = prompts.unique(return_inverse=True, return_counts=True)
        order = prompts.argsort(stable=True)
        starts = counts.cumsum(0) - counts
        place = torch.arange(len(prompts), device=prompts.device) - starts[prompts[order]]
        self.prompts, self.branches = len(remaining), int(counts.max())
        self.slots = torch.empty_like(prompts)
        self.slots[order] = prompts[order] * self.branches + place
        self._note_whether_full()
        return remaining

    def _note_whether_full(self) -> None:
        size = self.prompts * self.branches
        self._full = len(self.slots) == size and bool(
            (self.slots == torch.arange(size, device=self.slots.device)).all()
        )

    def keep(self, rows: Tensor) -> None:
        """Keep the rows named, in this order, where they are in the grid."""
        self.slots = self.slots[rows]
        self._note_whether_full()

    @property
    def sparse(self) -> bool:
        """Whether half of the grid is empty."""
        return 2 * len(self.slots) <= self.prompts * self.branches

    def spread(self, rows: Tensor) -> Tensor:
        """[n, heads, g, d] -> [prompts x heads, branches x g, d], zero where there is no row."""
        _, heads, group, width = rows.shape
        if not self._full:
            grid = rows.new_zeros(self.prompts * self.branches, heads, group, width)
            grid[self.slots] = rows
            rows = grid
        return (
            rows.view(self.prompts, self.branches, heads, group, width)
            .transpose(1, 2)
            .reshape(self.prompts * heads, self.branches * group, width)
        )

    def gather(self, grid: Tensor, heads: int) -> Tensor:
        """The inverse of ``spread``."""
        group, width = grid.shape[1] // self.branches, grid.shape[2]
        rows = grid.view(self.prompts, heads, self.branches, group, width).transpose(1, 2)
        rows = rows.reshape(self.prompts * self.branches, heads, group, width)
        return rows if self._full else rows[self.slots]


class BranchLayer(SlabLayer):
    """The states of the prompts, once each, and slabs of each row's new tokens."""

    def __init__(self, keys: Tensor, values: Tensor, rows: int, room: int) -> None:
        super().__init__(_no_tokens(keys, rows), _no_tokens(values, rows), room)
        self.prompt_keys, self.prompt_values = keys.contiguous(), values.contiguous()

    def keep_prompts(self, prompts: Tensor) -> None:
        """Drop all prompts but these."""
        self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]


def _no_tokens(states: Tensor, rows: int) -> Tensor:
    return states.new_empty(rows, states.shape[1], 0, states.shape[3])


class BranchCache(Cache):
    """A prefilled cache shared by the rows that continue its prompts."""

    def __init__(self, prefilled: Cache, prompts: Tensor, mask: Tensor | None, room: int) -> None:
        """``mask`` [P, L]: which tokens of the prompts are real; None where all are."""
        self.grid = Grid(prompts)
        self.branch_layers = [
            BranchLayer(layer.keys, layer.values, len(prompts), room) for layer in plain_layers(prefilled)
        ]
        super().__init__(layers=[*self.branch_layers])
        self.bias = None
        if mask is not None:
            dtype = self.branch_layers[0].dtype
            self.bias = torch.zeros_like(mask, dtype=dtype).masked_fill_(mask == 0, torch.finfo(dtype).min)
        self._keep_prompts(prompts.unique())

    def keep(self, rows: Tensor) -> None:
        """Keep the rows named, in this order; prompts without rows leave once half of the grid is empty."""
        sources, destinations = changed_places(rows)
        for layer in self.branch_layers:
            layer.keep(sources, destinations, len(rows))
        self.grid.keep(rows)
        if self.grid.sparse:
            self._keep_prompts(self.grid.arrange(self.grid.slots // self.grid.branches))

    def _keep_prompts(self, prompts: Tensor) -> None:
        if len(prompts) == len(self.branch_layers[0].prompt_keys):
            return
        self.bias = None if self.bias is None else self.bias[prompts]
        for layer in self.branch_layers:
            layer.keep_prompts(prompts)


def branch_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    branches: BranchCache,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """softmax(scaling q K^T) V over the prompt's and the row's own states, in the form transformers calls it.

    ``query`` [n, heads, 1, d]; ``key`` and ``value`` [n, kv heads, t, d] are the row's own. Returns
    [n, 1, heads, d]. Grouped-query attention needs no copies of keys. The logits go through the soft cap, if any.
    """
    if unsupported := [name for name in ("s_aux", "position_bias") if options.get(name) is not None]:
        raise NotImplementedError(f"branch attention has no {unsupported}")
    rows, heads, _, width = query.shape
    kv_heads, grid = key.shape[1], branches.grid
    layer: Any = branches.branch_layers[module.layer_idx]  # type: ignore[index]
    queries = (query * (width**-0.5 if scaling is None else scaling)).view(rows, kv_heads, heads // kv_heads, width)
    over_prompt = grid.spread(queries) @ layer.prompt_keys.flatten(0, 1).transpose(1, 2)
    logits = torch.cat([grid.gather(over_prompt, kv_heads), queries @ key.transpose(2, 3)], dim=-1)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if branches.bias is not None:
        prompts = grid.slots // grid.branches
        logits[..., : branches.bias.shape[1]] += branches.bias[prompts][:, None, None]
    weights = torch.softmax(logits, dim=-1, dtype=torch.float32).to(value.dtype)
    on_prompt, on_new = weights.split([layer.prompt_keys.shape[2], key.shape[2]], dim=-1)
    output = grid.gather(grid.spread(on_prompt) @ layer.prompt_values.flatten(0, 1), kv_heads) + on_new @ value
    return output.reshape(rows, 1, heads, output.shape[-1]), None


AttentionInterface.register(_NAME, branch_attention)


@contextmanager
def branching(model: PreTrainedModel) -> Iterator[None]:
    """Let the model attend through ``branch_attention`` meanwhile. It then builds no masks of its own."""
    usual = model.config._attn_implementation or "eager"
    model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)
