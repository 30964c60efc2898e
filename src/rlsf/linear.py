"""Float32 matrix products by oneDNN on processors where the default library is slow at them.

PyTorch sends float32 products on x86 to MKL, which on AMD processors reaches about half of what oneDNN does at the
same precision. oneDNN is reached through a private operator; where a PyTorch lacks it, layers stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Multiplications below which the call costs more than the product.
_SMALLEST = 2**20
#: Rows above this are padded to a multiple of it: oneDNN compiles and keeps a program for every number of rows, and a
#: batch that rows leave one by one would meet hundreds of them.
_ROWS = 32


@cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD x86 processor with AVX2 and a PyTorch that has both libraries and the operator.

    Decided by what the processor is, never by timing it: the libraries differ in the last bit, and results must not
    depend on how busy a machine was.
    """
    return onednn_verdict()[0]


def onednn_verdict() -> tuple[bool, str]:
    """The same, and why, for people."""
    abilities = torch.cpu.get_capabilities()
    if "AMD" not in str(abilities.get("cpu_name", "")):
        return False, "PyTorch's own choice is fast on this processor"
    if not abilities.get("avx2", False):
        return False, "an AMD processor without AVX2"
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False, "this PyTorch was built without MKL or without oneDNN"
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False, "this PyTorch lacks the operator"
    return True, "MKL, PyTorch's own choice, is slow on AMD processors"


def onednn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``inputs @ weight.T + bias`` by oneDNN for large float32 products on CPU, else as usual; no gradients.

    ``inputs`` [..., K], ``weight`` [N, K], ``bias`` [N] -> [..., N].
    """
    if inputs.dtype != torch.float32 or inputs.numel() * len(weight) < _SMALLEST:
        return F.linear(inputs, weight, bias)
    rows = inputs.reshape(-1, inputs.shape[-1])
    count = len(rows)
    if count > _ROWS and count % _ROWS:
        rows = F.pad(rows, (0, 0, 0, _ROWS - count % _ROWS))
    outputs = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return outputs[:count].view(*inputs.shape[:-1], len(weight))


@contextmanager
def fast_linears(model: nn.Module) -> Iterator[None]:
    """Let the model's float32 linear layers compute by oneDNN meanwhile, where that is faster; without gradients.

    Subclasses of ``nn.Linear`` and layers whose ``forward`` somebody else has replaced stay as they are.
    """
    layers = [layer for layer in model.modules() if _replaceable(layer)] if onednn_is_faster() else []
    try:
        for layer in layers:
            layer.forward = _forward_of(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _replaceable(layer: nn.Module) -> TypeGuard[nn.Linear]:
    return (
        type(layer) is nn.Linear
        and "forward" not in vars(layer)
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
    )


def _forward_of(layer: nn.Linear) -> Callable[..., Tensor]:
    def forward(input: Tensor) -> Tensor:
        return onednn_linear(input, layer.weight, layer.bias)

    return forward
