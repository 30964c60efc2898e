"""Statistics of logits: closed forms, float64 parity, invariances, ties, masks and memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from float64_reference import assert_matches
from hypothesis import given, settings
from hypothesis import strategies as st
from peak_memory import peak_bytes

from rlsf.errors import InputError
from rlsf.tokenstats import STATISTIC_NAMES, from_logits
from rlsf.tokenstats.from_logits import mass_of_logits, ranks_of_logits, statistics_of_logits


def test_a_distribution_by_hand() -> None:
    # p = (1/2, 1/4, 1/8, 1/8); logits are log p + 3. Chosen token 1.
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log() + 3.0
    columns = statistics_of_logits(logits, torch.tensor([1]))
    ln2 = math.log(2)
    assert columns.logprob.item() == pytest.approx(-2 * ln2, abs=1e-6)
    assert columns.top1_logprob.item() == pytest.approx(-ln2, abs=1e-6)
    assert columns.top2_logprob.item() == pytest.approx(-2 * ln2, abs=1e-6)
    assert columns.top1_id.item() == 0
    assert columns.logsumexp.item() == pytest.approx(3.0, abs=1e-6)
    # H = 1/2 ln 2 + 1/4 * 2 ln 2 + 2 * 1/8 * 3 ln 2 = 1.75 ln 2
    assert columns.entropy.item() == pytest.approx(1.75 * ln2, abs=1e-6)
    # mean = 3 - (1 + 2 + 3 + 3) ln 2 / 4
    assert columns.mean_logit.item() == pytest.approx(3 - 9 / 4 * ln2, abs=1e-6)


def test_without_ids_the_tokens_are_the_most_likely() -> None:
    logits = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    columns = statistics_of_logits(logits)
    assert torch.equal(columns.top1_id, logits.argmax(-1))
    assert torch.equal(columns.logprob, columns.top1_logprob)


@pytest.mark.parametrize("vocabulary", [2, 3, 31, 4096, 4097, 9000])
@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 30.0])
def test_parity_with_float64(vocabulary: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = scale * torch.randn(9, vocabulary, generator=generator) + 2.0
    ids = torch.randint(vocabulary, (9,), generator=generator)
    assert_matches(statistics_of_logits(logits, ids), logits, ids, tolerance=3e-5)


@given(
    rows=st.integers(1, 6),
    vocabulary=st.integers(2, 40),
    tile=st.integers(1, 50),
    scratch=st.integers(1, 2000),
    scale=st.floats(0.01, 20),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_chunks_and_tiles_do_not_matter(
    rows: int, vocabulary: int, tile: int, scratch: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, vocabulary, generator=generator)
    ids = torch.randint(vocabulary, (rows,), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(from_logits, "_TILE", tile)
        patch.setattr(from_logits, "_SCRATCH_BYTES", scratch)
        columns = statistics_of_logits(logits, ids)
    assert_matches(columns, logits, ids, tolerance=2e-5)


@given(shift=st.floats(-50, 50), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_a_shift_moves_only_logsumexp_and_mean(shift: float, seed: int) -> None:
    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(seed))
    ids = torch.tensor([0, 5, 19])
    before, after = statistics_of_logits(logits, ids), statistics_of_logits(logits + shift, ids)
    for name in STATISTIC_NAMES:
        moved = shift if name in ("logsumexp", "mean_logit") else 0.0
        torch.testing.assert_close(
            getattr(after, name).double(), getattr(before, name).double() + moved, atol=3e-5, rtol=0
        )


@pytest.mark.parametrize("places", [(3, 7), (0, 4200), (4095, 4096), (5, 4999)])
def test_a_tie_goes_to_the_smaller_id(places: tuple[int, int]) -> None:
    logits = torch.full((1, 5000), -3.0)
    logits[0, list(places)] = 4.0
    columns = statistics_of_logits(logits)
    assert columns.top1_id.item() == places[0]
    assert columns.top1_logprob.item() == columns.top2_logprob.item()


def test_uniform_distribution() -> None:
    columns = statistics_of_logits(torch.full((2, 8), 1.5), torch.tensor([0, 7]))
    assert columns.top1_id.tolist() == [0, 0]
    for name in ("logprob", "top1_logprob", "top2_logprob"):
        assert getattr(columns, name).tolist() == pytest.approx([-math.log(8)] * 2, abs=1e-6)
    assert columns.entropy.tolist() == pytest.approx([math.log(8)] * 2, abs=1e-6)


def test_masked_tokens_have_no_probability() -> None:
    # Two tokens survive the mask: p = (0, 2/3, 0, 1/3).
    logits = torch.tensor([[-torch.inf, math.log(2), -torch.inf, 0.0]] * 2)
    columns = statistics_of_logits(logits, torch.tensor([1, 0]))
    assert columns.logprob.tolist() == pytest.approx([math.log(2 / 3), -math.inf], abs=1e-6)
    assert columns.top2_logprob[0].item() == pytest.approx(math.log(1 / 3), abs=1e-6)
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert columns.entropy.tolist() == pytest.approx([entropy] * 2, abs=1e-6)
    assert columns.mean_logit.tolist() == [-math.inf] * 2


def test_one_hot() -> None:
    logits = torch.full((1, 10), -torch.inf)
    logits[0, 6] = 2.0
    columns = statistics_of_logits(logits, torch.tensor([6]))
    assert (columns.logprob.item(), columns.top1_logprob.item(), columns.entropy.item()) == (0.0, 0.0, 0.0)
    assert columns.top1_id.item() == 6
    assert columns.top2_logprob.item() == -math.inf
    assert columns.logsumexp.item() == 2.0


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, 9.9e3, -1e4], [-1e4, -1e4, -1e4], [3e4, -3e4, 0.0]])
    columns = statistics_of_logits(logits, torch.tensor([0, 1, 2]))
    assert all(column.isfinite().all() for column in columns)
    assert columns.logprob.tolist() == pytest.approx([0.0, -math.log(3), -3e4], abs=1e-3)
    assert columns.entropy.tolist() == pytest.approx([0.0, math.log(3), 0.0], abs=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_broken_rows_show_in_logsumexp(bad: float) -> None:
    logits = torch.zeros(3, 6)
    logits[1, 2] = bad
    assert statistics_of_logits(logits).logsumexp.isfinite().tolist() == [True, False, True]


def test_a_row_of_nothing_but_masks_shows_in_logsumexp() -> None:
    logits = torch.zeros(2, 6)
    logits[1] = -torch.inf
    assert statistics_of_logits(logits).logsumexp.isfinite().tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_read_exactly(dtype: torch.dtype) -> None:
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(1)).to(dtype)
    ids = torch.tensor([0, 1, 2, 299])
    columns = statistics_of_logits(logits, ids)
    assert columns.entropy.dtype == torch.float32
    assert_matches(columns, logits, ids, tolerance=2e-5)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_temperature(temperature: float) -> None:
    logits = 3 * torch.randn(7, 300, generator=torch.Generator().manual_seed(3))
    ids = torch.arange(7)
    columns = statistics_of_logits(logits, ids, temperature=temperature)
    assert_matches(columns, logits.double() / temperature, ids, tolerance=2e-5)


def test_ranks_of_a_distribution_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_logits, "_SCRATCH_BYTES", 10)  # two rows at a time
    logits = torch.tensor([[3.0, 1.0, 2.0, 1.0, -torch.inf]] * 5)
    assert ranks_of_logits(logits, torch.arange(5)).tolist() == [1, 3, 2, 3, 5]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_mass_of_token_sets(temperature: float) -> None:
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log() * temperature
    columns = statistics_of_logits(logits, temperature=temperature)
    masses = mass_of_logits(logits, columns, [[1], [0, 3], range(4)], temperature=temperature)
    assert masses.tolist()[0] == pytest.approx([0.25, 0.625, 1.0], abs=1e-6)


@pytest.mark.parametrize(
    ("token_sets", "message"),
    [([[1], []], "token set 1 is empty"), ([[4]], "token id 4.*4 tokens"), ([[-1]], "id -1"), ([[2, 2]], "twice")],
)
def test_token_sets_that_are_none(token_sets: list[list[int]], message: str) -> None:
    logits = torch.zeros(1, 4)
    with pytest.raises(InputError, match=message):
        mass_of_logits(logits, statistics_of_logits(logits), token_sets)


def test_as_the_container_of_a_trace() -> None:
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(2))
    statistics = statistics_of_logits(logits, torch.arange(5)).to_token_statistics(vocabulary_size=11)
    assert len(statistics) == 5
    assert statistics.top1_id.dtype == np.int32
    # KL(U || p) = -(1/V) sum log p - log V
    expected = -torch.log_softmax(logits.double(), -1).mean(-1) - math.log(11)
    np.testing.assert_allclose(statistics.self_certainty, expected.numpy(), atol=1e-5)


def test_memory_does_not_grow_with_the_rows() -> None:
    few, many = (torch.randn(rows, 4096) for rows in (64, 1024))
    statistics_of_logits(few)
    for logits in (few, many):
        peak = peak_bytes(
            lambda logits=logits: statistics_of_logits(logits, torch.zeros(len(logits), dtype=torch.long))
        )
        assert 0 < peak < 8 * 2**20
