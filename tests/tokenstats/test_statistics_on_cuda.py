"""The kernel on a device that has it, and what other devices of its kind do: float64 parity. Skipped without CUDA."""

from __future__ import annotations

import pytest
import torch
from float64_reference import assert_matches, logits_of_head, reference

from rlsf.tokenstats.backend import choose_backend
from rlsf.tokenstats.differentiable import differentiable_statistics
from rlsf.tokenstats.from_hidden import statistics_of_hidden
from rlsf.tokenstats.head import OutputHead

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

#: Largest error of a statistic of half-precision inputs, whose products are exact, summed in float32.
ROUNDING = 2e-3


def problem(
    rows: int, width: int, vocabulary: int, dtype: torch.dtype
) -> tuple[torch.Tensor, OutputHead, torch.Tensor]:
    random = torch.Generator().manual_seed(rows + vocabulary)
    hidden = torch.randn(rows, width, generator=random).to(dtype)
    weight = (torch.randn(vocabulary, width, generator=random) * 3 / width**0.5).to(dtype)
    ids = torch.randint(vocabulary, (rows,), generator=random)
    return hidden.cuda(), OutputHead(weight.cuda()), ids.cuda()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("rows", "width", "vocabulary"), [(1, 64, 97), (130, 96, 5003), (700, 576, 32_003)])
def test_statistics_by_their_definitions(rows: int, width: int, vocabulary: int, dtype: torch.dtype) -> None:
    hidden, head, ids = problem(rows, width, vocabulary, dtype)
    assert choose_backend(hidden, head).name == ("tiles" if dtype == torch.float32 else "triton")
    assert_matches(statistics_of_hidden(hidden, head, ids), logits_of_head(hidden, head), ids, ROUNDING)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_gradients_by_their_definitions(dtype: torch.dtype) -> None:
    hidden, head, ids = problem(130, 96, 5003, dtype)
    hidden.requires_grad_()
    found = differentiable_statistics(hidden, head, ids)
    (found.logprob.sum() + found.entropy.sum()).backward()
    exact = hidden.detach().double().requires_grad_()
    expected = reference(logits_of_head(exact, head), ids)
    (expected["logprob"].sum() + expected["entropy"].sum()).backward()
    assert hidden.grad is not None
    assert exact.grad is not None
    error = (hidden.grad.double() - exact.grad).abs().max() / exact.grad.abs().max()
    assert error < (1e-2 if dtype == torch.bfloat16 else 1e-4)
