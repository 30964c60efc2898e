"""The K most likely tokens, the filters and the draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rlsf.sampling import choosing
from rlsf.sampling.choosing import draw, filtered, most_likely
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.randomness import trace_uniforms


def test_most_likely_tokens_in_order_ties_by_id() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert most_likely(logits, 4).tolist() == [[1, 3, 2, 4], [0, 1, 2, 3]]


@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.data())
@settings(max_examples=80, deadline=None)
def test_most_likely_is_a_stable_sort(values: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(values)))
    expected = sorted(range(len(values)), key=lambda place: (-values[place], place))[:count]
    assert most_likely(torch.tensor([values], dtype=torch.float32), count).tolist() == [expected]


@given(
    temperature=st.floats(0.2, 3.0),
    top_k=st.integers(0, 30),
    top_p=st.floats(0.05, 1.0),
    min_p=st.floats(0.0, 0.5),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_filters_are_those_of_transformers(
    temperature: float, top_k: int, top_p: float, min_p: float, seed: int
) -> None:
    logits = 3 * torch.randn(3, 25, generator=torch.Generator().manual_seed(seed))
    config = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(temperature)]
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    warpers += [MinPLogitsWarper(min_p)] if min_p else []
    expected = LogitsProcessorList(warpers)(torch.zeros(3, 1, dtype=torch.long), logits)
    ours = filtered(logits, config)
    # A cumulative probability within a rounding error of top_p may fall on either side.
    edge = (torch.softmax(logits / temperature, -1).sort(-1, descending=True).values.cumsum(-1) - top_p).abs().min()
    if edge > 1e-5:
        torch.testing.assert_close(ours, expected)


def test_nucleus_keeps_the_token_that_reaches_the_threshold() -> None:
    # Cumulative: 0.5, 0.8, 0.95, 1; top_p = 0.6 is reached by the second token.
    kept = filtered(torch.tensor([[0.05, 0.5, 0.15, 0.3]]).log(), SamplingConfig(top_p=0.6)).isfinite()
    assert kept.tolist() == [[False, True, False, True]]


def test_draws_follow_the_distribution() -> None:
    # 1000 evenly spread uniforms hit a token of probability p in 1000 p of the cases, up to one.
    probabilities = torch.tensor([0.1, 0.25, 0.0, 0.6, 0.05])
    uniforms = (torch.arange(1000, dtype=torch.float64) + 0.5).unsqueeze(0) / 1000
    counts = draw(probabilities.log().unsqueeze(0), uniforms, SamplingConfig()).flatten().bincount(minlength=5)
    assert (counts - 1000 * probabilities).abs().max() <= 1
    assert counts[2] == 0


def test_draws_are_ordered_by_token_id() -> None:
    uniforms = torch.tensor([[0.0, 0.0999, 0.1001, 0.3499, 0.3501, 0.9499, 0.9501, 1 - 1e-16]], dtype=torch.float64)
    ids = draw(torch.tensor([[0.1, 0.25, 0.0, 0.6, 0.05]]).log(), uniforms, SamplingConfig())
    assert ids.tolist() == [[0, 0, 1, 1, 3, 3, 4, 4]]


def test_draws_never_leave_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(40, 100, generator=torch.Generator().manual_seed(0))
    config = SamplingConfig(temperature=1.5, top_k=7, top_p=0.8, min_p=0.1)
    uniforms = torch.rand(40, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ids = draw(logits, uniforms, config)
    assert filtered(logits, config).gather(1, ids).isfinite().all()
    monkeypatch.setattr(choosing, "_SCRATCH_BYTES", 3 * 100 * 8)
    assert torch.equal(draw(logits, uniforms, config), ids)


def test_uniforms_belong_to_the_trace() -> None:
    numbers = trace_uniforms(0, "question-1", 3, 8)
    np.testing.assert_array_equal(trace_uniforms(0, "question-1", 3, 3), numbers[:3])
    assert ((numbers >= 0) & (numbers < 1)).all()
    others = [(1, "question-1", 3), (0, "question-2", 3), (0, "question-1", 4), (0, "question-13", 0)]
    assert all(not np.isin(trace_uniforms(*other, 8), numbers).any() for other in others)


def test_uniforms_are_the_same_in_every_release() -> None:
    expected = [0.3374942874438024, 0.4982694848109963, 0.4715939775333736]
    np.testing.assert_array_equal(trace_uniforms(42, "p", 0, 3), expected)
