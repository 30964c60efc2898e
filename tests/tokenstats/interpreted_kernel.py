"""The CUDA kernel run on a CPU by Triton's interpreter: against float64, and against tiles of PyTorch operations.

Not collected by itself: the interpreter is chosen before Triton is imported, so ``test_triton_kernel`` runs this file
in a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import triton.language as tl
from float64_reference import assert_matches, largest_relative_error, logits_of_head
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from rlsf.tokenstats import triton_kernel
from rlsf.tokenstats.backend import Backend
from rlsf.tokenstats.from_hidden import statistics_and_ranks_of_hidden, statistics_of_hidden
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.parts import StatisticColumns, VocabularyParts
from rlsf.tokenstats.tiles import parts_by_tiles
from rlsf.tokenstats.triton_kernel import Blocks, parts_by_triton

TRITON = Backend("triton", 4096, parts_by_triton)
POINTERS = Blocks(rows=16, tokens=32, width=16, warps=4, stages=2, resident=1)
DESCRIPTORS = Blocks(rows=16, tokens=32, width=16, warps=4, stages=2, resident=1, descriptors=True)


@pytest.fixture(autouse=True, scope="module")
def products_of_bfloat16() -> Iterator[None]:
    """The interpreter holds bfloat16 as its bits, and its ``dot`` multiplies them as integers: widen them before."""
    original = InterpreterBuilder.create_dot

    def widened(handle: TensorHandle) -> TensorHandle:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def create_dot(self: InterpreterBuilder, a: TensorHandle, b: TensorHandle, *others: object) -> TensorHandle:
        return original(self, widened(a), widened(b), *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_dot", create_dot)
        yield


@pytest.fixture(params=[POINTERS, DESCRIPTORS], ids=["pointers", "descriptors"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Blocks:
    """Blocks so small that a little problem has many."""
    monkeypatch.setattr(triton_kernel, "choose_blocks", lambda states, weight: request.param)
    return request.param


def problem(
    rows: int, vocabulary: int, width: int, dtype: torch.dtype = torch.float32, scale: float = 3.0, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=random)
    weight = torch.randn(vocabulary, width, generator=random) * (scale / width**0.5)
    return hidden.to(dtype), weight.to(dtype), torch.randint(vocabulary, (rows,), generator=random)


def statistics(hidden: Tensor, head: OutputHead, ids: Tensor | None = None) -> StatisticColumns:
    return statistics_of_hidden(hidden, head, ids, backend=TRITON)


def assert_same(mine: VocabularyParts, theirs: VocabularyParts, ids: Tensor) -> None:
    """Whatever the parts are: the same whole."""
    nothing = torch.zeros(len(ids))
    merged = [parts.merge(nothing) for parts in (mine, theirs)]
    assert torch.equal(merged[0].top1_id, merged[1].top1_id)
    for ours, other in zip(*merged, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=2e-6)
    for name in ("total", "above"):
        ours, other = (getattr(parts, name) for parts in (mine, theirs))
        assert (ours is None) == (other is None)
        if ours is not None:
            torch.testing.assert_close(ours.sum(1), other.sum(1), atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize(("scale", "temperature"), [(1.0, 1.0), (-2.0, 0.6)])
def test_heads(blocks: Blocks, dtype: torch.dtype, softcap: float | None, scale: float, temperature: float) -> None:
    hidden, weight, ids = problem(19, 150, 24, dtype)
    bias = None if scale == 1.0 else 2 * torch.randn(150, generator=torch.Generator().manual_seed(1))
    head = OutputHead(weight, bias, scale, softcap, vocabulary_size=140)
    ids = ids.clamp(max=139)
    columns, ranks = statistics_and_ranks_of_hidden(hidden, head, ids, temperature=temperature, backend=TRITON)
    logits = logits_of_head(hidden, head, temperature)
    assert largest_relative_error(columns, logits, ids) < 1e-6
    assert torch.equal(ranks, 1 + (logits > logits.gather(1, ids.unsqueeze(1))).sum(1))
    above = logits.gather(1, ids.unsqueeze(1)).squeeze(1).float()
    mine, theirs = (
        compute(hidden, head, ids, temperature, total=True, above=above)
        for compute in (parts_by_triton, parts_by_tiles)
    )
    assert mine.top1.shape == (19, 2)  # parts, of 3 tiles and of 2
    assert_same(mine, theirs, ids)


@given(
    rows=st.integers(1, 40),
    vocabulary=st.integers(2, 200),
    eighths=st.integers(1, 5),
    scale=st.floats(0.01, 10),
    described=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=25, deadline=None)
def test_every_size(rows: int, vocabulary: int, eighths: int, scale: float, described: bool, seed: int) -> None:
    hidden, weight, ids = problem(rows, vocabulary, 8 * eighths, scale=scale, seed=seed)
    head = OutputHead(weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_kernel, "choose_blocks", lambda states, weight: DESCRIPTORS if described else POINTERS)
        columns = statistics(hidden, head, ids)
    # Products that cancel leave a logit small and its rounding as it was.
    assert largest_relative_error(columns, logits_of_head(hidden, head), ids) < 5e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [3, 70])
def test_the_blocks_of_a_device(dtype: torch.dtype, rows: int) -> None:
    hidden, weight, ids = problem(rows, 700, 72, dtype)
    head = OutputHead(weight)
    assert largest_relative_error(statistics(hidden, head, ids), logits_of_head(hidden, head), ids) < 1e-6


def test_views_and_mixed_precisions_are_read_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """An odd width, rows with gaps between them, an embedding stored by columns, states of another dtype."""
    monkeypatch.setattr(triton_kernel, "choose_blocks", lambda states, weight: POINTERS)
    hidden, weight, ids = problem(9, 100, 29)
    wide = torch.zeros(9, 40)
    wide[:, :29] = hidden
    for states, embedding in (
        (wide[:, :29], weight),
        (hidden, weight.T.contiguous().T),
        (hidden.bfloat16(), weight),
        (hidden, weight.bfloat16()),
        (hidden.bfloat16(), weight.half()),
        (hidden.double(), weight),
        (hidden, weight.double()),
    ):
        head = OutputHead(embedding)
        columns = statistics(states, head, ids)
        assert largest_relative_error(columns, logits_of_head(states, head), ids) < 1e-6


def test_equal_logits(blocks: Blocks) -> None:
    columns = statistics(torch.ones(2, 8), OutputHead(torch.full((300, 8), 0.25)), torch.tensor([0, 299]))
    assert columns.top1_id.tolist() == [0, 0]
    for statistic in ("logprob", "top1_logprob", "top2_logprob"):
        assert getattr(columns, statistic).tolist() == pytest.approx([-math.log(300)] * 2, rel=1e-6)
    assert columns.entropy.tolist() == pytest.approx([math.log(300)] * 2, rel=1e-6)
    assert columns.logsumexp.tolist() == pytest.approx([2 + math.log(300)] * 2, rel=1e-6)


@pytest.mark.parametrize("places", [(3, 7), (31, 32), (0, 299), (95, 96), (17, 18, 290)])
def test_a_tie_goes_to_the_smaller_id(blocks: Blocks, places: tuple[int, ...]) -> None:
    """Within a tile, in neighbours, and in two parts, of 96 tokens each."""
    weight = torch.full((300, 8), -1.5)
    weight[list(places)] = 2.0
    columns = statistics(torch.ones(2, 8), OutputHead(weight), torch.tensor(places[:2]))
    assert columns.top1_id.tolist() == [places[0]] * 2
    assert torch.equal(columns.top1_logprob, columns.top2_logprob)
    assert torch.equal(columns.logprob, columns.top1_logprob)


def test_the_likeliest_token_alone_has_exactly_the_largest_logprob(blocks: Blocks) -> None:
    hidden, weight, ids = problem(16, 200, 16)
    for head in (OutputHead(weight, scale=0.7), OutputHead(weight, torch.linspace(-1, 1, 200), softcap=4.0)):
        likeliest = statistics(hidden, head).top1_id
        columns, ranks = statistics_and_ranks_of_hidden(hidden, head, likeliest, backend=TRITON)
        assert torch.equal(columns.logprob, columns.top1_logprob)
        assert ranks.tolist() == [1] * 16
        others = statistics(hidden, head, torch.where(ids == likeliest, (ids + 1) % 200, ids))
        assert (others.logprob <= others.top2_logprob).all()
        assert (others.top2_logprob < others.top1_logprob).all()


def test_extreme_logits(blocks: Blocks) -> None:
    logits = torch.tensor([[1e4, 9.9e3, -1e4], [-1e4, -1e4, -1e4], [3e4, -3e4, 0.0], [1e4, 1e4 - 1, -1e4]])
    head, ids = OutputHead(torch.eye(8)[:, :4].contiguous()[:3]), torch.tensor([0, 1, 2, 1])
    hidden = torch.nn.functional.pad(logits, (0, 1))
    assert_matches(statistics(hidden, head, ids), logits, ids, tolerance=1e-6)


def test_masked_tokens(blocks: Blocks) -> None:
    """Every third one, and a whole part; the token of some row is masked, and the count above it leaves them out."""
    hidden, weight, _ = problem(6, 300, 16)
    bias = torch.zeros(300)
    bias[::3] = -torch.inf
    bias[96:192] = -torch.inf
    head, ids = OutputHead(weight, bias), torch.tensor([0, 1, 2, 100, 299, 200])
    columns, ranks = statistics_and_ranks_of_hidden(hidden, head, ids, backend=TRITON)
    logits = logits_of_head(hidden, head)
    assert_matches(columns, logits, ids, tolerance=2e-6)
    assert torch.equal(ranks, 1 + (logits > logits.gather(1, ids.unsqueeze(1))).sum(1))
    totals = parts_by_triton(hidden, head, ids, 1.0, total=True, above=None).total
    assert totals is not None
    assert totals.sum(1).tolist() == [-math.inf] * 6


def test_one_hot(blocks: Blocks) -> None:
    bias = torch.full((300,), -torch.inf)
    bias[250] = 2.0
    columns = statistics(torch.ones(1, 8), OutputHead(torch.zeros(300, 8), bias), torch.tensor([250]))
    assert (columns.logprob.item(), columns.top1_logprob.item(), columns.entropy.item()) == (0.0, 0.0, 0.0)
    assert (columns.top1_id.item(), columns.logsumexp.item()) == (250, 2.0)
    assert (columns.top2_logprob.item(), columns.mean_logit.item()) == (-math.inf, -math.inf)


def test_nothing_but_masks_shows_in_logsumexp(blocks: Blocks) -> None:
    head = OutputHead(torch.ones(70, 8), torch.full((70,), -torch.inf))
    assert statistics(torch.ones(1, 8), head).logsumexp.tolist() == [-math.inf]


def test_two_tokens_and_one_row(blocks: Blocks) -> None:
    hidden, weight = torch.ones(1, 8), torch.zeros(2, 8)
    weight[1] = math.log(3) / 8
    columns = statistics(hidden, OutputHead(weight), torch.tensor([0]))
    assert columns.top1_id.item() == 1
    assert columns.logprob.item() == pytest.approx(math.log(1 / 4), rel=1e-6)
    assert columns.entropy.item() == pytest.approx(math.log(4) - 3 / 4 * math.log(3), rel=1e-6)


def test_no_rows(blocks: Blocks) -> None:
    columns = statistics(torch.zeros(0, 8), OutputHead(torch.ones(9, 8)), torch.zeros(0, dtype=torch.int64))
    assert all(column.shape == (0,) for column in columns)
