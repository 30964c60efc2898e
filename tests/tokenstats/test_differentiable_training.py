"""Statistics with gradients inside a training step: optimizers, autocast, checkpointing, memory, TRL's own function."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from float64_reference import logits_of_head, reference
from peak_memory import peak_bytes
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from trl.kernels import ChunkedLogProbFunction

from rlsf.errors import InputError
from rlsf.tokenstats.backend import Backend
from rlsf.tokenstats.differentiable import differentiable_statistics
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.tiles import parts_by_tiles

ROWS, WIDTH, VOCABULARY = 40, 12, 90
IDS = torch.arange(ROWS)


class TinyModel(nn.Module):
    """Inputs to hidden states by one layer, with an output embedding and a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(WIDTH, WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY)
        self.inputs = torch.randn(ROWS, WIDTH)

    def hidden(self) -> Tensor:
        return torch.tanh(self.body(self.inputs))

    def head(self) -> OutputHead:
        return OutputHead(self.lm_head.weight, self.lm_head.bias)

    def gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.parameters() if parameter.grad is not None]


def losses_of_descent(model: TinyModel, loss: Callable[[TinyModel], Tensor]) -> list[float]:
    """Losses before each of some steps of the optimizer that transformers' trainers take by default."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, fused=True)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def test_descent_on_entropy_goes_as_through_plain_logits() -> None:
    def plain(model: TinyModel) -> Tensor:
        columns = reference(logits_of_head(model.hidden(), model.head()), IDS)
        certainty = columns["logsumexp"] - columns["mean_logit"] - math.log(VOCABULARY)
        return (columns["entropy"] - 0.1 * certainty).mean()

    model = TinyModel()
    twin = copy.deepcopy(model).double()
    twin.inputs = twin.inputs.double()
    # The same head throughout, as a trainer would keep it.
    head = model.head()

    def ours(model: TinyModel) -> Tensor:
        statistics = differentiable_statistics(model.hidden(), head, IDS)
        return (statistics.entropy - 0.1 * statistics.self_certainty).mean()

    losses = losses_of_descent(model, ours)
    assert losses == pytest.approx(losses_of_descent(twin, plain), abs=1e-4)
    assert all(after < before for before, after in pairwise(losses))
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(reentrant: bool) -> None:
    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return differentiable_statistics(hidden, OutputHead(weight, bias), IDS).entropy.mean()

    plain, checkpointed = TinyModel(), TinyModel()
    loss(plain.hidden(), *plain.lm_head.parameters()).backward()
    arguments = (checkpointed.hidden(), *checkpointed.lm_head.parameters())
    checkpoint(loss, *arguments, use_reentrant=reentrant).backward()
    assert len(plain.gradients()) == 4
    for mine, theirs in zip(checkpointed.gradients(), plain.gradients(), strict=True):
        assert torch.equal(mine, theirs)


def test_autocast_rounds_nothing() -> None:
    hidden = TinyModel().hidden().detach().bfloat16()
    gradients = []
    for enabled in (False, True):
        model, leaf = TinyModel(), hidden.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            statistics = differentiable_statistics(leaf, model.head(), IDS)
            assert {column.dtype for column in statistics} == {torch.float32, torch.int64}
            (statistics.entropy + statistics.self_certainty).mean().backward()
        assert leaf.grad is not None
        gradients.append([leaf.grad, *model.gradients()])
    assert [gradient.dtype for gradient in gradients[1]] == [torch.bfloat16, torch.float32, torch.float32]
    for rounded, exact in zip(gradients[1], gradients[0], strict=True):
        assert torch.equal(rounded, exact)


def test_under_autocast_from_the_layer_below() -> None:
    model = TinyModel()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.hidden()
        statistics = differentiable_statistics(hidden, model.head(), IDS)
    statistics.entropy.mean().backward()
    assert hidden.dtype == torch.bfloat16
    assert [gradient.dtype for gradient in model.gradients()] == [torch.float32] * 4


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, 3.0)])
def test_parity_with_trl(temperature: float, scale: float, softcap: float | None) -> None:
    """``ChunkedLogProbFunction`` of TRL 1.16 is an independent implementation of two of the statistics."""
    mine, theirs = TinyModel(), TinyModel()
    head = OutputHead(mine.lm_head.weight, mine.lm_head.bias, scale, softcap)
    statistics = differentiable_statistics(mine.hidden(), head, IDS.int(), temperature=temperature)
    logprob, entropy, *_ = ChunkedLogProbFunction.apply(
        theirs.hidden(), *theirs.lm_head.parameters(), IDS, temperature, 32, softcap, scale, ("entropy",)
    )
    torch.testing.assert_close(statistics.logprob, logprob, atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(statistics.entropy, entropy, atol=2e-6, rtol=1e-6)
    weights = torch.randn(2, ROWS, generator=torch.Generator().manual_seed(1))
    (weights[0] * statistics.logprob + weights[1] * statistics.entropy).sum().backward()
    (weights[0] * logprob + weights[1] * entropy).sum().backward()
    assert len(mine.gradients()) == 4
    for gradient, other in zip(mine.gradients(), theirs.gradients(), strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-5)


def test_nothing_of_the_size_of_the_logits_is_allocated() -> None:
    rows, vocabulary, width = 2048, 8192, 32  # logits of 64 MiB
    hidden, weight, bias = (
        torch.randn(size, requires_grad=True) for size in ((rows, width), (vocabulary, width), 8192)
    )
    head = OutputHead(weight, bias, softcap=20.0)

    def step() -> None:
        statistics = differentiable_statistics(hidden, head, torch.zeros(rows, dtype=torch.int64))
        (statistics.entropy - statistics.logprob + statistics.self_certainty).mean().backward()

    step()
    assert 0 < peak_bytes(step) < 32 * 2**20


def test_a_frozen_embedding_gets_no_buffer() -> None:
    hidden = torch.randn(32, 512, requires_grad=True)
    head = OutputHead(torch.randn(8192, 512))  # 16 MiB

    def step() -> None:
        differentiable_statistics(hidden, head, torch.zeros(32, dtype=torch.int64)).entropy.mean().backward()

    step()
    assert hidden.grad is not None
    assert 0 < peak_bytes(step) < 2 * 2**20


def test_a_second_differentiation_is_refused() -> None:
    model = TinyModel()
    hidden = model.hidden()
    entropy = differentiable_statistics(hidden, model.head(), IDS).entropy.sum()
    with pytest.raises(RuntimeError, match="differentiated once, not with create_graph=True"):
        torch.autograd.grad(entropy, hidden, create_graph=True)


def test_weights_changed_before_the_backward_pass_are_noticed() -> None:
    model = TinyModel()
    entropy = differentiable_statistics(model.hidden(), model.head(), IDS).entropy.sum()
    with torch.no_grad():
        model.lm_head.weight.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        entropy.backward()


def test_the_backend_can_be_chosen() -> None:
    blocks = []

    def parts(hidden: Tensor, *arguments: object, **options: object) -> object:
        blocks.append(len(hidden))
        return parts_by_tiles(hidden, *arguments, **options)

    model = TinyModel()
    differentiable_statistics(model.hidden(), model.head(), IDS, backend=Backend("counting", 16, parts))
    assert blocks == [16, 16, 8]


def test_a_wrong_id_is_named() -> None:
    model = TinyModel()
    with pytest.raises(InputError, match="token id 90 in row 2"):
        differentiable_statistics(model.hidden()[:3], model.head(), torch.tensor([0, 1, 90]))
