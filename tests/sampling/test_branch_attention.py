"""Slabs and the attention over shared prompts, against the textbook."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import Cache, DynamicLayer

from rlsf.sampling.branches import BranchCache, Grid, branch_attention
from rlsf.sampling.cache import Slab, SlabCache
from rlsf.sampling.decoding import filling_holes

HEADS, KV_HEADS, DIM = 6, 2, 4


def test_slab_is_a_concatenation_that_can_drop_rows() -> None:
    states = torch.randn(4, 2, 3, 5)
    slab, expected = Slab(states, room=1), states
    for step in range(60):
        new = torch.randn(len(expected), 2, 1, 5)
        expected = torch.cat([expected, new], dim=2)
        assert torch.equal(slab.append(new), expected)
        if step == 30:
            slab.keep(torch.tensor([3]), torch.tensor([1]), 3)
            expected = expected[[0, 3, 2]]
    assert len(slab) == 63


@given(st.lists(st.booleans(), min_size=1, max_size=20))
@settings(deadline=None)
def test_holes_are_filled_from_the_end(alive: list[bool]) -> None:
    order = filling_holes(torch.tensor(alive)).tolist()
    assert sorted(order) == [row for row, stays in enumerate(alive) if stays]
    assert all(order[row] == row for row in range(len(order)) if alive[row])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=25), st.data())
@settings(deadline=None)
def test_grid_gathers_what_it_spreads(prompts: list[int], data: st.DataObject) -> None:
    grid = Grid(torch.tensor(prompts))
    kept = data.draw(st.permutations(range(len(prompts))))[: data.draw(st.integers(1, len(prompts)))]
    for rows in (list(range(len(prompts))), kept):
        grid.keep(torch.tensor(rows))
        values = torch.randn(len(rows), 2, 3, 4)
        assert torch.equal(grid.gather(grid.spread(values), heads=2), values)
    remaining = grid.arrange(grid.slots // grid.branches)
    assert remaining.numel() == grid.prompts == len({prompts[row] for row in kept})
    values = torch.randn(len(kept), 2, 3, 4)
    assert torch.equal(grid.gather(grid.spread(values), heads=2), values)


def prefilled(prompts: int, length: int) -> Cache:
    cache = Cache(layers=[DynamicLayer()])
    cache.update(torch.randn(prompts, KV_HEADS, length, DIM), torch.randn(prompts, KV_HEADS, length, DIM), 0)
    return cache


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_attention_over_shared_prompts(padded: bool, softcap: float | None) -> None:
    """Rows leave one by one, whole prompts among them; every step equals attention over copies of the prompts."""
    torch.manual_seed(0)
    cache = prefilled(prompts=3, length=5)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]) if padded else None
    prompts = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    branches, copies = BranchCache(cache, prompts, mask, room=2), SlabCache(cache, prompts, room=2)
    module = SimpleNamespace(layer_idx=0)
    for step in range(8):
        query = torch.randn(len(prompts), HEADS, 1, DIM)
        key, value = (torch.randn(len(prompts), KV_HEADS, 1, DIM) for _ in range(2))
        own = branches.update(key, value, 0)
        output, _ = branch_attention(module, query, *own, None, branches=branches, softcap=softcap)
        keys, values = (states.repeat_interleave(HEADS // KV_HEADS, 1) for states in copies.update(key, value, 0))
        logits = query @ keys.transpose(2, 3) * DIM**-0.5
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        if mask is not None:
            logits[..., :5] = logits[..., :5].masked_fill(mask[prompts][:, None, None] == 0, -torch.inf)
        expected = torch.softmax(logits, -1) @ values
        torch.testing.assert_close(output, expected.transpose(1, 2), atol=1e-6, rtol=1e-5)
        if step in (1, 3, 4, 5):
            kept = filling_holes(torch.arange(len(prompts)) != 0)
            prompts = prompts[kept]
            branches.keep(kept)
            copies.keep(kept)
    assert len(branches.branch_layers[0].prompt_keys) < 3, "a prompt without rows must leave"


def test_attention_is_the_library_function_for_one_row_a_prompt() -> None:
    torch.manual_seed(1)
    cache = prefilled(prompts=2, length=4)
    branches = BranchCache(cache, torch.tensor([1, 0]), None, room=4)
    query, key, value = (
        torch.randn(2, HEADS, 1, DIM),
        torch.randn(2, KV_HEADS, 1, DIM),
        torch.randn(2, KV_HEADS, 1, DIM),
    )
    output, _ = branch_attention(
        SimpleNamespace(layer_idx=0), query, *branches.update(key, value, 0), None, branches=branches
    )
    layer = cache.layers[0]
    keys, values = torch.cat([layer.keys[[1, 0]], key], 2), torch.cat([layer.values[[1, 0]], value], 2)
    expected = scaled_dot_product_attention(query, keys, values, enable_gqa=True)
    torch.testing.assert_close(output, expected.transpose(1, 2), atol=1e-6, rtol=1e-5)


def test_features_it_does_not_know_are_refused() -> None:
    branches = BranchCache(prefilled(1, 2), torch.tensor([0]), None, room=1)
    states = torch.zeros(1, KV_HEADS, 1, DIM)
    with pytest.raises(NotImplementedError, match="s_aux"):
        branch_attention(
            SimpleNamespace(layer_idx=0),
            torch.zeros(1, HEADS, 1, DIM),
            states,
            states,
            None,
            branches=branches,
            s_aux=torch.zeros(HEADS),
        )
