"""Linear layers by oneDNN: the same products, only where they may, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rlsf.linear import fast_linears, onednn_is_faster, onednn_linear

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no oneDNN linear"
)


@pytest.fixture
def on_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the fast way whatever this processor is; the operator is exact on all of them."""
    monkeypatch.setattr("rlsf.linear.onednn_is_faster", lambda: True)


@pytest.mark.parametrize(
    "shape", [(640, 160, 448), (33, 300, 500), (95, 160, 448), (3, 500, 999), (1, 1024, 1500), (7, 40, 33)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_product(shape: tuple[int, int, int], bias: bool) -> None:
    rows, inner, outer = shape
    random = torch.Generator().manual_seed(0)
    inputs, weight = torch.randn(rows, 1, inner, generator=random), torch.randn(outer, inner, generator=random)
    offset = torch.randn(outer, generator=random) if bias else None
    with torch.no_grad():
        found = onednn_linear(inputs, weight, offset)
    exact = inputs.double() @ weight.double().T + (0 if offset is None else offset.double())
    # A float32 sum of K terms of size one errs by about sqrt(K) roundings of 6e-8 each; none is near 1e-4.
    torch.testing.assert_close(found.double(), exact, atol=1e-4, rtol=0)
    assert found.shape == (rows, 1, outer)


def test_half_precision_goes_the_usual_way() -> None:
    inputs, weight = torch.randn(2000, 64).bfloat16(), torch.randn(64, 64).bfloat16()
    assert torch.equal(onednn_linear(inputs, weight), nn.functional.linear(inputs, weight))


def test_layers_are_replaced_and_given_back(on_every_processor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(
        "rlsf.linear.onednn_linear",
        lambda inputs, weight, bias=None: calls.append(1) or nn.functional.linear(inputs, weight, bias),
    )
    layer = nn.Linear(4, 3)
    inputs = torch.randn(2, 4)
    with torch.no_grad(), fast_linears(nn.Sequential(layer)):
        inside = layer(inputs)
    assert calls == [1]
    assert torch.equal(layer(inputs), inside)
    assert calls == [1]
    assert "forward" not in vars(layer)


def test_layers_are_given_back_after_an_error(on_every_processor: None) -> None:
    layer = nn.Linear(4, 3)
    with pytest.raises(KeyError), torch.no_grad(), fast_linears(layer):
        raise KeyError
    assert "forward" not in vars(layer)


def test_foreign_layers_stay_as_they_are(on_every_processor: None) -> None:
    class Quantised(nn.Linear):
        pass

    quantised, half, hooked = Quantised(4, 3), nn.Linear(4, 3, dtype=torch.bfloat16), nn.Linear(4, 3)
    hooked.forward = theirs = lambda inputs: inputs
    with torch.no_grad(), fast_linears(nn.Sequential(quantised, half, hooked)):
        assert "forward" not in vars(quantised)
        assert "forward" not in vars(half)
        assert hooked.forward is theirs
    assert hooked.forward is theirs


def test_adapters_compute_the_same_and_train_afterwards(on_every_processor: None) -> None:
    base = nn.Sequential(nn.Linear(600, 600), nn.Linear(600, 600))
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["0", "1"], init_lora_weights=False))  # type: ignore[arg-type]
    inputs = torch.randn(8, 600)
    with torch.no_grad():
        usual = model(inputs)
        with fast_linears(model):
            torch.testing.assert_close(model(inputs), usual, atol=1e-4, rtol=1e-4)
    model(inputs).sum().backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if "lora_" in name)


@pytest.mark.parametrize(("name", "avx2"), [("AMD EPYC", True), ("AMD EPYC", False), ("Intel Xeon", True)])
def test_decided_by_the_processor_alone(name: str, avx2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name, "avx2": avx2})
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert onednn_is_faster.__wrapped__() == (name.startswith("AMD") and avx2)
