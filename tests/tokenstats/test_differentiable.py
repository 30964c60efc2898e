"""Gradients of statistics of hidden states: autograd through plain float64 logits, and closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from float64_reference import logits_of_head, reference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlsf.tokenstats import differentiable, tiles
from rlsf.tokenstats.differentiable import differentiable_statistics
from rlsf.tokenstats.from_hidden import statistics_of_hidden
from rlsf.tokenstats.head import OutputHead

OUTPUTS = ("logprob", "entropy", "logsumexp", "mean_logit", "self_certainty")


def plain_statistics(hidden: Tensor, head: OutputHead, ids: Tensor, temperature: float = 1.0) -> dict[str, Tensor]:
    """The definitions through the float64 logits of the tokens that are not masked, for autograd to differentiate."""
    logits = logits_of_head(hidden, head, temperature)
    keep = (logits[0] > -torch.inf).nonzero().squeeze(1)
    columns = reference(logits[:, keep], torch.searchsorted(keep, ids))
    certainty = columns["logsumexp"] - columns["mean_logit"] - math.log(head.vocabulary_size)
    return columns | {"self_certainty": certainty}


@dataclass(frozen=True)
class Case:
    """A head, hidden states that give distributions of all kinds from flat to peaked, and ids."""

    rows: int = 37
    vocabulary: int = 203
    width: int = 16
    bias: bool = False
    scale: float = 1.0
    softcap: float | None = None
    vocabulary_size: int = 0
    temperature: float = 1.0
    masked: int = 0
    dtype: torch.dtype = torch.float32

    @property
    def finite_outputs(self) -> list[str]:
        return list(OUTPUTS[:3] if self.masked else OUTPUTS)

    def make(self) -> tuple[Tensor, OutputHead, Tensor]:
        random = torch.Generator().manual_seed(0)
        steepness = torch.linspace(0.1, 2.0, self.rows).unsqueeze(1)
        hidden = steepness * torch.randn(self.rows, self.width, generator=random)
        weight = torch.randn(self.vocabulary, self.width, generator=random)
        bias = torch.randn(self.vocabulary, generator=random) if self.bias or self.masked else None
        size = self.vocabulary_size or self.vocabulary
        if bias is not None and self.masked:
            bias[torch.randperm(size, generator=random)[: self.masked]] = -torch.inf
        allowed = torch.arange(size) if bias is None else (bias[:size] > -torch.inf).nonzero().squeeze(1)
        ids = allowed[torch.randint(len(allowed), (self.rows,), generator=random)]
        hidden, weight = (part.to(self.dtype).requires_grad_() for part in (hidden, weight))
        bias = None if bias is None else bias.to(self.dtype).requires_grad_()
        return hidden, OutputHead(weight, bias, self.scale, self.softcap, self.vocabulary_size), ids


CASES = {
    "plain": Case(),
    "bias": Case(bias=True),
    "scale": Case(bias=True, scale=-0.4),
    "temperature": Case(bias=True, temperature=0.6),
    "softcap": Case(softcap=4.0),
    "all at once": Case(bias=True, scale=0.3, softcap=2.5, temperature=1.7, vocabulary_size=190),
    "padded vocabulary": Case(bias=True, vocabulary_size=129),
    "masked": Case(masked=60),
    "masked and padded": Case(masked=60, scale=0.5, temperature=2.0, vocabulary_size=180),
    "one row, two tokens": Case(rows=1, vocabulary=2),
}


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_TOKENS", 64)
    monkeypatch.setattr(differentiable, "_ROWS", 16)


def parameters(hidden: Tensor, head: OutputHead) -> list[Tensor]:
    return [part for part in (hidden, head.weight, head.bias) if part is not None]


def exact(hidden: Tensor, head: OutputHead) -> tuple[Tensor, OutputHead]:
    """Copies in float64, so that the reference's gradients are not rounded either."""
    hidden, weight, bias = (
        None if part is None else part.detach().double().requires_grad_() for part in (hidden, head.weight, head.bias)
    )
    return hidden, OutputHead(weight, bias, head.scale, head.softcap, head.vocabulary_size)


def assert_gradients(case: Case, names: list[str], tolerance: float, rounding: float = 0.0) -> None:
    """For a random upstream gradient, within ``tolerance`` of the largest element and ``rounding`` of each."""
    hidden, head, ids = case.make()
    exact_hidden, exact_head = exact(hidden, head)
    actual = differentiable_statistics(hidden, head, ids, temperature=case.temperature)
    expected = plain_statistics(exact_hidden, exact_head, ids, case.temperature)
    upstream = [torch.randn(case.rows, generator=torch.Generator().manual_seed(seed)) for seed in range(len(names))]
    for name in names:
        torch.testing.assert_close(getattr(actual, name).double(), expected[name], atol=2e-5, rtol=1e-5, msg=name)
    gradients = torch.autograd.grad([getattr(actual, name) for name in names], parameters(hidden, head), upstream)
    references = torch.autograd.grad(
        [expected[name] for name in names], parameters(exact_hidden, exact_head), [part.double() for part in upstream]
    )
    for gradient, wanted in zip(gradients, references, strict=True):
        assert gradient.dtype == case.dtype
        error = tolerance * max(wanted.abs().max().item(), 1.0)
        torch.testing.assert_close(gradient.double(), wanted, atol=error, rtol=rounding)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    ("name", "output"), [(name, output) for name, case in CASES.items() for output in case.finite_outputs]
)
def test_gradient_of_each_statistic(name: str, output: str) -> None:
    assert_gradients(CASES[name], [output], tolerance=2e-5)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("name", CASES)
def test_gradient_of_a_combination(name: str) -> None:
    assert_gradients(CASES[name], CASES[name].finite_outputs, tolerance=2e-5)


def test_gradient_in_tiles_of_the_usual_size() -> None:
    assert_gradients(Case(rows=701, vocabulary=4401, width=64, bias=True, scale=0.3), list(OUTPUTS), tolerance=1e-5)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    # Seven blocks of rows and four tiles of tokens are summed before the only rounding, to half a unit.
    case = Case(rows=100, bias=True, dtype=dtype)
    assert_gradients(case, list(OUTPUTS), tolerance=1e-5, rounding=torch.finfo(dtype).eps / 2)


def test_half_hidden_states_and_float32_weights() -> None:
    hidden, head, ids = Case().make()
    half = hidden.detach().bfloat16().requires_grad_()
    exact_half, exact_head = exact(half, head)
    entropy = differentiable_statistics(half, head, ids).entropy
    gradients = torch.autograd.grad(entropy.sum(), [half, head.weight])
    expected = plain_statistics(exact_half, exact_head, ids)["entropy"]
    references = torch.autograd.grad(expected.sum(), [exact_half, exact_head.weight])
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32]
    torch.testing.assert_close(gradients[0].double(), references[0], atol=1e-4, rtol=2**-8)
    torch.testing.assert_close(gradients[1].double(), references[1], atol=1e-4, rtol=0)


@given(
    size=st.integers(2, 40),
    rows=st.integers(1, 6),
    steepness=st.floats(0.0, 10.0),
    temperature=st.floats(0.3, 3.0),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_closed_forms(size: int, rows: int, steepness: float, temperature: float, seed: int) -> None:
    # With the identity as embedding the hidden states are the logits.
    logits = steepness * torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))
    logits.requires_grad_()
    ids = torch.arange(rows) % size
    statistics = differentiable_statistics(logits, OutputHead(torch.eye(size)), ids, temperature=temperature)
    p = (logits.detach().double() / temperature).softmax(-1)
    gradients = {
        name: torch.autograd.grad(getattr(statistics, name).sum(), logits, retain_graph=True)[0].double() * temperature
        for name in OUTPUTS
    }
    torch.testing.assert_close(gradients["logsumexp"], p, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradients["self_certainty"], p - 1 / size, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradients["mean_logit"], torch.full_like(p, 1 / size), atol=1e-6, rtol=0)
    torch.testing.assert_close(gradients["logprob"], torch.eye(size)[ids] - p, atol=1e-5, rtol=0)
    # A shift of all logits changes none of these.
    for name in ("entropy", "logprob", "self_certainty"):
        torch.testing.assert_close(gradients[name].sum(-1), torch.zeros(rows).double(), atol=1e-4, rtol=0)


def test_entropy_gradient_by_hand() -> None:
    # p = (1/2, 1/4, 1/4): H = 1.5 ln 2, so dH/dz = -p (log p + H) = (-1/4, 1/8, 1/8) ln 2.
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log().requires_grad_()
    statistics = differentiable_statistics(logits, OutputHead(torch.eye(3)), torch.tensor([0]))
    (gradient,) = torch.autograd.grad(statistics.entropy.sum(), logits)
    assert gradient[0].tolist() == pytest.approx([-math.log(2) / 4, math.log(2) / 8, math.log(2) / 8], abs=1e-6)


@pytest.mark.usefixtures("small_tiles")
def test_masked_and_padded_tokens_get_nothing() -> None:
    hidden, head, ids = Case(masked=60, vocabulary_size=180).make()
    masked = head.bias == -torch.inf
    statistics = differentiable_statistics(hidden, head, ids)
    loss = (statistics.entropy - statistics.logprob + statistics.logsumexp + statistics.mean_logit).sum()
    to_hidden, to_weight, to_bias = torch.autograd.grad(loss, parameters(hidden, head))
    assert to_hidden.isfinite().all()
    assert to_weight[masked].abs().max() == to_bias[masked].abs().max() == 0
    assert to_weight[180:].abs().max() == to_bias[180:].abs().max() == 0
    assert to_bias[:180][~masked[:180]].abs().min() > 0


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_gradients_only_where_required(wanted: tuple[int, ...]) -> None:
    hidden, head, ids = Case(bias=True).make()
    all_parameters = parameters(hidden, head)
    expected = torch.autograd.grad(differentiable_statistics(hidden, head, ids).entropy.sum(), all_parameters)
    leaves = [part.detach().requires_grad_(place in wanted) for place, part in enumerate(all_parameters)]
    differentiable_statistics(leaves[0], OutputHead(leaves[1], leaves[2]), ids).entropy.sum().backward()
    for place, leaf in enumerate(leaves):
        assert leaf.grad is None if place not in wanted else torch.equal(leaf.grad, expected[place])


def test_the_values_are_those_of_the_pass_without_gradients() -> None:
    hidden, head, ids = Case(bias=True, softcap=3.0).make()
    with_gradients = differentiable_statistics(hidden, head, ids, temperature=0.7)
    without = statistics_of_hidden(hidden, head, ids, temperature=0.7)
    for name, column in without._asdict().items():
        assert torch.equal(getattr(with_gradients, name), column), name
    differing = {name for name, column in with_gradients._asdict().items() if column.requires_grad}
    assert differing == set(OUTPUTS)


def test_tied_weights_get_the_sum() -> None:
    embedding = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ids = torch.arange(20)
    gradients = [
        torch.autograd.grad(entropy.sum(), embedding)[0]
        for entropy in (
            differentiable_statistics(embedding[ids + 5], OutputHead(embedding), ids).entropy,
            plain_statistics(embedding[ids + 5], OutputHead(embedding), ids)["entropy"],
        )
    ]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-5)


def test_no_rows() -> None:
    hidden, head, _ = Case().make()
    statistics = differentiable_statistics(hidden[:0], head, torch.zeros(0, dtype=torch.int64))
    (statistics.entropy.sum() + statistics.mean_logit.sum()).backward()
    assert statistics.entropy.shape == (0,)
    assert head.weight.grad is not None
    assert head.weight.grad.abs().max() == 0
