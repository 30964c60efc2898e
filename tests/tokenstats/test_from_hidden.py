"""Statistics of hidden states, by every backend: float64 parity, hard cases, invariances, bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from float64_reference import assert_matches, largest_relative_error, logits_of_head
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlsf.errors import InputError, ModelError
from rlsf.tokenstats import STATISTIC_NAMES, tiles
from rlsf.tokenstats.backend import Backend, choose_backend
from rlsf.tokenstats.compiled import compiled_code
from rlsf.tokenstats.from_hidden import mass_of_tokens, statistics_and_ranks_of_hidden, statistics_of_hidden
from rlsf.tokenstats.from_logits import statistics_of_logits
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.tiles import parts_by_tiles

BACKENDS = ["tiles", "compiled"]


def backend(name: str, head: OutputHead) -> Backend:
    if name == "tiles":
        return Backend("tiles", 64, parts_by_tiles)
    if compiled_code().functions is None:
        pytest.skip(compiled_code().reason)
    chosen = choose_backend(head.weight, head)
    assert chosen.name == name
    return chosen


def problem(
    rows: int, vocabulary: int, width: int, *, scale: float = 1.0, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, an output embedding whose logits have about the standard deviation ``scale``, and token ids."""
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=random)
    weight = torch.randn(vocabulary, width, generator=random) * (scale / width**0.5)
    return hidden.to(dtype), weight.to(dtype), torch.randint(vocabulary, (rows,), generator=random)


def logits_as_hidden(logits: Tensor) -> tuple[Tensor, OutputHead]:
    """Hidden states and a head that give these logits exactly: the embedding is the identity."""
    return logits, OutputHead(torch.eye(logits.shape[1]))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "vocabulary", "width"), [(37, 9001, 96), (1, 33, 7), (130, 2, 1), (3, 4096, 515)])
@pytest.mark.parametrize("scale", [0.1, 4.0])
def test_relative_error_against_float64(
    name: str, dtype: torch.dtype, rows: int, vocabulary: int, width: int, scale: float
) -> None:
    hidden, weight, ids = problem(rows, vocabulary, width, scale=scale, dtype=dtype)
    head = OutputHead(weight)
    columns = statistics_of_hidden(hidden, head, ids, backend=backend(name, head))
    assert largest_relative_error(columns, logits_of_head(hidden, head), ids) < 1e-6


@pytest.mark.parametrize("name", BACKENDS)
def test_hundred_thousand_rows(name: str) -> None:
    hidden, weight, ids = problem(100_003, 50, 8, scale=3.0)
    head = OutputHead(weight)
    columns = statistics_of_hidden(hidden, head, ids, backend=backend(name, head))
    assert all(column.shape == (100_003,) for column in columns)
    assert largest_relative_error(columns, logits_of_head(hidden, head), ids) < 1e-6


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize(("scale", "temperature"), [(1.0, 1.0), (0.25, 0.6), (-2.0, 1.5), (0.8, 0.8)])
def test_heads(name: str, bias: bool, softcap: float | None, scale: float, temperature: float) -> None:
    hidden, weight, ids = problem(21, 4500, 40, scale=4.0)
    head = OutputHead(weight, 2 * torch.randn(4500, generator=torch.Generator().manual_seed(1)) if bias else None)
    head = OutputHead(weight, head.bias, scale, softcap, vocabulary_size=4490)
    ids = ids.clamp(max=4489)
    columns, ranks = statistics_and_ranks_of_hidden(
        hidden, head, ids, temperature=temperature, backend=backend(name, head)
    )
    logits = logits_of_head(hidden, head, temperature)
    assert largest_relative_error(columns, logits, ids) < 1e-6
    expected = 1 + (logits > logits.gather(1, ids.unsqueeze(1))).sum(1)
    # A token whose logit all but equals that of another may change places with it.
    assert ((ranks - expected).abs() <= 1).all()
    assert (ranks == expected).float().mean() > 0.9


@pytest.mark.parametrize("name", BACKENDS)
def test_the_head_may_be_more_precise_than_the_hidden_states_or_less(name: str) -> None:
    hidden, weight, ids = problem(9, 300, 32, scale=3.0)
    for states, embedding in ((hidden.bfloat16(), weight), (hidden, weight.bfloat16()), (hidden.half(), weight.half())):
        head = OutputHead(embedding)
        columns = statistics_of_hidden(states, head, ids, backend=backend(name, head))
        assert largest_relative_error(columns, logits_of_head(states, head), ids) < 1e-6


@pytest.mark.parametrize("name", BACKENDS)
def test_views_are_read_in_place(name: str) -> None:
    """Rows with gaps between them, and an embedding stored by columns."""
    hidden, weight, ids = problem(9, 300, 32, scale=3.0)
    wide = torch.zeros(9, 40)
    wide[:, :32] = hidden
    for states, embedding in ((wide[:, :32], weight), (hidden, weight.T.contiguous().T)):
        head = OutputHead(embedding)
        columns = statistics_of_hidden(states, head, ids, backend=backend(name, head))
        assert largest_relative_error(columns, logits_of_head(states, head), ids) < 1e-6


@pytest.mark.parametrize("name", BACKENDS)
class TestHardDistributions:
    def test_extreme_logits(self, name: str) -> None:
        logits = torch.tensor([[1e4, 9.9e3, -1e4], [-1e4, -1e4, -1e4], [3e4, -3e4, 0.0], [1e4, 1e4 - 1, -1e4]])
        hidden, head = logits_as_hidden(logits)
        ids = torch.tensor([0, 1, 2, 1])
        columns = statistics_of_hidden(hidden, head, ids, backend=backend(name, head))
        assert_matches(columns, logits, ids, tolerance=1e-6)

    def test_equal_logits(self, name: str) -> None:
        hidden, head = torch.ones(2, 4), OutputHead(torch.full((9000, 4), 0.375))
        columns = statistics_of_hidden(hidden, head, torch.tensor([0, 8999]), backend=backend(name, head))
        assert columns.top1_id.tolist() == [0, 0]
        for statistic in ("logprob", "top1_logprob", "top2_logprob"):
            assert getattr(columns, statistic).tolist() == pytest.approx([-math.log(9000)] * 2, rel=1e-6)
        assert columns.entropy.tolist() == pytest.approx([math.log(9000)] * 2, rel=1e-6)
        assert columns.mean_logit.tolist() == pytest.approx([1.5, 1.5], rel=1e-6)

    def test_one_hot(self, name: str) -> None:
        bias = torch.full((5000,), -torch.inf)
        bias[4500] = 2.0
        head = OutputHead(torch.zeros(5000, 3), bias)
        columns = statistics_of_hidden(torch.ones(1, 3), head, torch.tensor([4500]), backend=backend(name, head))
        assert (columns.logprob.item(), columns.top1_logprob.item(), columns.entropy.item()) == (0.0, 0.0, 0.0)
        assert (columns.top1_id.item(), columns.logsumexp.item()) == (4500, 2.0)
        assert (columns.top2_logprob.item(), columns.mean_logit.item()) == (-math.inf, -math.inf)

    def test_masked_tokens(self, name: str) -> None:
        hidden, weight, _ = problem(6, 5000, 16, scale=3.0)
        bias = torch.zeros(5000)
        bias[torch.arange(0, 5000, 3)] = -torch.inf
        bias[4096:] = -torch.inf  # nothing left of the last part
        head, ids = OutputHead(weight, bias), torch.tensor([0, 1, 2, 3, 4999, 100])
        columns = statistics_of_hidden(hidden, head, ids, backend=backend(name, head))
        assert_matches(columns, logits_of_head(hidden, head), ids, tolerance=2e-6)

    def test_nothing_but_masks_shows_in_logsumexp(self, name: str) -> None:
        head = OutputHead(torch.ones(70, 3), torch.full((70,), -torch.inf))
        assert not statistics_of_hidden(torch.ones(1, 3), head, backend=backend(name, head)).logsumexp.isfinite().any()

    @pytest.mark.parametrize("places", [(3, 7), (0, 4200), (4095, 4096), (5, 4999), (31, 32), (17, 18, 4999)])
    def test_a_tie_goes_to_the_smaller_id(self, name: str, places: tuple[int, ...]) -> None:
        weight = torch.full((5000, 2), -1.5)
        weight[list(places)] = 2.0
        head = OutputHead(weight)
        columns = statistics_of_hidden(torch.ones(2, 2), head, torch.tensor(places[:2]), backend=backend(name, head))
        assert columns.top1_id.tolist() == [places[0]] * 2
        assert torch.equal(columns.top1_logprob, columns.top2_logprob)
        assert torch.equal(columns.logprob, columns.top1_logprob)

    def test_the_likeliest_token_has_exactly_the_largest_logprob(self, name: str) -> None:
        hidden, weight, _ = problem(200, 3000, 64, scale=3.0)
        head = OutputHead(weight)
        greedy = statistics_of_hidden(hidden, head, backend=backend(name, head))
        columns, ranks = statistics_and_ranks_of_hidden(hidden, head, greedy.top1_id, backend=backend(name, head))
        assert torch.equal(columns.logprob, columns.top1_logprob)
        assert torch.equal(greedy.logprob, greedy.top1_logprob)
        assert ranks.tolist() == [1] * 200


@pytest.mark.parametrize("name", BACKENDS)
@given(
    rows=st.integers(1, 40),
    vocabulary=st.integers(2, 200),
    width=st.integers(1, 40),
    scale=st.floats(0.01, 10),
    tile=st.integers(1, 100),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_every_size(name: str, rows: int, vocabulary: int, width: int, scale: float, tile: int, seed: int) -> None:
    hidden, weight, ids = problem(rows, vocabulary, width, scale=scale, seed=seed)
    head = OutputHead(weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_TOKENS", tile)
        columns = statistics_of_hidden(hidden, head, ids, backend=backend(name, head))
    # Where the products of a small vocabulary cancel, their rounding is large beside what is left of them.
    assert largest_relative_error(columns, logits_of_head(hidden, head), ids) < 5e-6


@pytest.mark.parametrize("name", BACKENDS)
@given(shift=st.floats(-50, 50), seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_a_shift_moves_only_logsumexp_and_mean(name: str, shift: float, seed: int) -> None:
    hidden, weight, ids = problem(3, 50, 6, seed=seed)
    heads = OutputHead(weight), OutputHead(weight, torch.full((50,), shift))
    before, after = (statistics_of_hidden(hidden, head, ids, backend=backend(name, head)) for head in heads)
    for statistic in STATISTIC_NAMES:
        moved = shift if statistic in ("logsumexp", "mean_logit") else 0.0
        values = getattr(before, statistic).double() + moved
        torch.testing.assert_close(getattr(after, statistic).double(), values, atol=3e-5, rtol=0)


@pytest.mark.parametrize("name", BACKENDS)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_vocabulary_does_not_matter(name: str, seed: int) -> None:
    hidden, weight, ids = problem(5, 77, 9, scale=2.0, seed=seed)
    order = torch.randperm(77, generator=torch.Generator().manual_seed(seed))
    heads = OutputHead(weight), OutputHead(weight[order])
    before = statistics_of_hidden(hidden, heads[0], ids, backend=backend(name, heads[0]))
    after = statistics_of_hidden(hidden, heads[1], order.argsort()[ids], backend=backend(name, heads[1]))
    assert torch.equal(order[after.top1_id], before.top1_id)
    for statistic in set(STATISTIC_NAMES) - {"top1_id"}:
        torch.testing.assert_close(getattr(after, statistic), getattr(before, statistic), atol=5e-6, rtol=1e-6)


@pytest.mark.parametrize("name", BACKENDS)
@given(seed=st.integers(0, 2**31), scale=st.floats(0, 40))
@settings(max_examples=40, deadline=None)
def test_bounds(name: str, seed: int, scale: float) -> None:
    """KL(U || p) >= 0, 0 <= entropy <= log V, logprobs in order."""
    hidden, weight, ids = problem(5, 300, 9, scale=scale, seed=seed)
    head = OutputHead(weight)
    columns = statistics_of_hidden(hidden, head, ids, backend=backend(name, head))
    rounding = 1e-6 * max(1.0, float(columns.logsumexp.abs().max()), float(columns.mean_logit.abs().max()))
    assert (columns.logsumexp - columns.mean_logit - math.log(300) >= -10 * rounding).all()
    assert ((columns.entropy >= 0) & (columns.entropy <= math.log(300) * (1 + 1e-6))).all()
    assert (columns.top1_logprob <= 0).all()
    assert (columns.top2_logprob <= columns.top1_logprob).all()
    assert (columns.logprob <= columns.top1_logprob).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_row_does_not_depend_on_others_nor_on_threads(threads: int) -> None:
    """Compiled code sums in one order always: the same bits alone, in company, and on any number of threads."""
    hidden, weight, ids = problem(45, 9000, 300, scale=3.0)
    head = OutputHead(weight)
    together = statistics_of_hidden(hidden, head, ids, backend=backend("compiled", head))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone = [
            statistics_of_hidden(hidden[rows], head, ids[rows], backend=backend("compiled", head))
            for rows in (slice(0, 1), slice(1, 14), slice(14, 45))
        ]
    finally:
        torch.set_num_threads(before)
    for place, statistic in enumerate(STATISTIC_NAMES):
        if statistic != "mean_logit":  # a matrix-vector product by PyTorch
            assert torch.equal(torch.cat([part[place] for part in alone]), together[place]), statistic


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_mass_of_token_sets(temperature: float) -> None:
    hidden, weight, ids = problem(7, 300, 16, scale=3.0)
    head = OutputHead(weight, torch.randn(300, generator=torch.Generator().manual_seed(1)), softcap=8.0)
    columns = statistics_of_hidden(hidden, head, ids, temperature=temperature)
    masses = mass_of_tokens(hidden, head, columns, [[3], [5, 7, 299], range(300)], temperature=temperature)
    probabilities = logits_of_head(hidden, head, temperature).softmax(-1)
    expected = torch.stack([probabilities[:, 3], probabilities[:, [5, 7, 299]].sum(1), torch.ones(7)], dim=1)
    torch.testing.assert_close(masses.double(), expected.double(), atol=2e-6, rtol=1e-5)


def test_the_same_as_from_logits() -> None:
    hidden, weight, ids = problem(50, 2000, 32, scale=3.0)
    head = OutputHead(weight)
    columns, others = statistics_of_hidden(hidden, head, ids), statistics_of_logits(hidden @ weight.T, ids)
    for mine, theirs in zip(columns, others, strict=True):
        torch.testing.assert_close(mine, theirs, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_changed_weights_change_the_mean_logit(fused: bool) -> None:
    """A fused optimiser changes weights without counting a version."""
    hidden, weight, ids = problem(3, 4000, 8)
    parameter = torch.nn.Parameter(weight)
    head = OutputHead(parameter)
    statistics_of_hidden(hidden, head, ids)
    parameter.grad = torch.randn(4000, 8, generator=torch.Generator().manual_seed(1))
    torch.optim.AdamW([parameter], lr=0.1, fused=fused).step()
    columns = statistics_of_hidden(hidden, head, ids)
    assert largest_relative_error(columns, logits_of_head(hidden, head).detach(), ids) < 1e-6


def test_no_rows() -> None:
    columns = statistics_of_hidden(torch.zeros(0, 4), OutputHead(torch.ones(9, 4)), torch.zeros(0, dtype=torch.int64))
    assert all(column.shape == (0,) for column in columns)


GOOD: dict[str, Any] = {"hidden": torch.zeros(3, 4), "ids": torch.tensor([0, 1, 2]), "temperature": 1.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden": torch.zeros(3, 5)}, [r"\[3, 5\]", r"\[9, 4\]"]),
        ({"hidden": torch.zeros(2, 3, 4)}, [r"\[2, 3, 4\]"]),
        ({"hidden": torch.zeros(3, 4, dtype=torch.int64)}, ["int64"]),
        ({"hidden": torch.zeros(3, 4, device="meta")}, ["meta", "cpu"]),
        ({"ids": torch.tensor([0, 1])}, [r"\[2\]", r"\[3, 4\]"]),
        ({"ids": torch.zeros(3)}, ["float32"]),
        ({"ids": torch.tensor([0, 9, 2])}, ["id 9 in row 1", "9 tokens"]),
        ({"ids": torch.tensor([0, 1, -1])}, ["id -1 in row 2"]),
        ({"temperature": 0.0}, ["temperature=0"]),
    ],
)
def test_bad_input(change: dict[str, Any], words: list[str]) -> None:
    arguments = GOOD | change
    with pytest.raises(InputError) as error:
        statistics_of_hidden(
            arguments["hidden"],
            OutputHead(torch.zeros(9, 4)),
            arguments["ids"],
            temperature=arguments["temperature"],
        )
    for word in words:
        error.match(word)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", BACKENDS)
def test_what_is_not_finite_is_named(name: str, bad: float) -> None:
    hidden, weight, ids = problem(5, 40, 8)
    hidden[3, 2] = bad
    head = OutputHead(weight)
    with pytest.raises(ModelError, match=f"{bad} in row 3"):
        statistics_of_hidden(hidden, head, ids, backend=backend(name, head))
    weight[7, 7] = bad
    with pytest.raises(ModelError, match=r"output embedding \[40, 8\] .* not finite"):
        statistics_of_hidden(hidden[:3], head, ids[:3], backend=backend(name, head))
    broken = OutputHead(torch.zeros(40, 8), torch.full((40,), bad))
    with pytest.raises(ModelError, match="bias"):
        statistics_of_hidden(hidden[:3], broken, ids[:3], backend=backend(name, broken))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"weight": torch.zeros(4)}, r"\[4\]"),
        ({"weight": torch.zeros(1, 4)}, r"\[1, 4\]"),
        ({"bias": torch.zeros(8)}, r"\[8\]"),
        ({"vocabulary_size": 10}, "vocabulary_size=10"),
        ({"vocabulary_size": 1}, "vocabulary_size=1"),
        ({"scale": 0.0}, "scale=0"),
        ({"softcap": -1.0}, "softcap=-1"),
    ],
)
def test_bad_heads(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        OutputHead(**({"weight": torch.zeros(9, 4)} | arguments))
