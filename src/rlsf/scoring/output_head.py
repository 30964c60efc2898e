"""How a model's hidden states become its logits, found by experiment on the model itself.

The output embedding sees exactly what the architecture feeds it, whatever the base model calls it. For the time of a
forward pass it is replaced by one that keeps its input, and returns something small. What the model does with the
logits afterwards (scale, soft cap, a cut of the vocabulary) has a dozen names in the configurations of
architectures, and some models ignore the name that theirs has; so known numbers are sent through it instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlsf.errors import ModelError
from rlsf.tokenstats.head import OutputHead

#: Numbers sent through the post-processing: powers of two, which no precision rounds, and one that saturates a cap.
_SMALL, _LARGE = 2.0**-10, -(2.0**20)
_PROBES = (0.0, _SMALL, -1.0, 4.0, -16.0, 256.0, _LARGE)
_TOLERANCE = 1e-5


class UnknownHead(ModelError):
    """The logits are not cap(scale (W h + b)) with W and b of a plain linear layer; the message says why."""


@dataclass(frozen=True, slots=True)
class PostProcessing:
    """What a model does with the outputs of its last layer: see ``OutputHead``."""

    scale: float
    softcap: float | None
    vocabulary_size: int

    def head_of(self, layer: nn.Linear) -> OutputHead:
        """The layer with this after it."""
        return OutputHead(layer.weight, layer.bias, self.scale, self.softcap, self.vocabulary_size)


def last_layer(model: PreTrainedModel) -> nn.Linear:
    """The plain linear layer that turns hidden states into logits: the trained copy where PEFT holds one.

    To be asked outside of ``CausalModel.inference``, which replaces the layer's ``forward`` itself. Raises
    ``UnknownHead`` for anything else: an adapter on the layer, quantised weights, hooks that change its output.
    """
    module: Any = model.get_output_embeddings()
    if hasattr(module, "modules_to_save"):
        active = module.active_adapters[0] if module.active_adapters else None
        copied = not module.disable_adapters and active in module.modules_to_save
        module = module.modules_to_save[active] if copied else module.original_module
    name = type(module).__name__
    if not isinstance(module, nn.Linear) or type(module).forward is not nn.Linear.forward:
        raise UnknownHead(f"its output embedding is {name}, not a plain linear layer")
    if "forward" in vars(module) or module._forward_hooks:
        raise UnknownHead("something else has hooked into its output embedding")
    if not module.weight.is_floating_point() or module.weight.is_meta:
        raise UnknownHead(f"the weights of its output embedding are {module.weight.dtype} on {module.weight.device}")
    return module


@contextmanager
def _replaced(layer: nn.Linear, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    usual = vars(layer).pop("forward", None)
    vars(layer)["forward"] = forward
    try:
        yield
    finally:
        del vars(layer)["forward"]
        if usual is not None:
            vars(layer)["forward"] = usual


@contextmanager
def captured_states(layer: nn.Linear) -> Iterator[list[Tensor]]:
    """What the layer is given meanwhile, call by call; what it returns is one zero a row."""
    states: list[Tensor] = []

    def forward(hidden: Tensor) -> Tensor:
        states.append(hidden)
        return hidden.new_zeros(*hidden.shape[:-1], 1)

    with _replaced(layer, forward):
        yield states


def find_post_processing(layer: nn.Linear, read: Callable[[Tensor], Tensor]) -> PostProcessing:
    """What happens between the layer and the logits that ``read``, a forward pass over ids [1, 2], returns.

    Of f(x) = softcap tanh(scale x / softcap) the softcap is |f(large)|, and the scale follows from f(small); without a
    cap f(large) / large = f(small) / small. Every token must then agree at two of the numbers sent. Raises
    ``UnknownHead`` where some does not.
    """
    numbers = torch.tensor(_PROBES, dtype=torch.float64, device=layer.weight.device)
    places = torch.arange(len(layer.weight), device=layer.weight.device)
    sent = torch.stack([numbers[(places + shift) % len(numbers)] for shift in (0, 3)]).unsqueeze(0)
    with _replaced(layer, lambda hidden: sent.clone()):
        returned = read(places[:2].unsqueeze(0))
    size = returned.shape[-1]
    if returned.shape[:2] != sent.shape[:2] or not 2 <= size <= sent.shape[-1]:
        raise UnknownHead(f"its logits have the shape {list(returned.shape)} where {list(sent.shape)} is expected")
    sent, returned = sent[..., :size], returned.double()
    small, large = (float(returned[sent == number][0]) for number in (_SMALL, _LARGE))
    if not 0 < abs(small) < abs(large) < math.inf:
        raise UnknownHead("its logits do not grow with the outputs of its output embedding")
    linear = abs(large - small * (_LARGE / _SMALL)) <= _TOLERANCE * abs(large)
    cap = None if linear else abs(large)
    scale = (small if cap is None else cap * math.atanh(small / cap)) / _SMALL
    found = PostProcessing(scale, cap, size)
    expected = found.head_of(layer).finish(sent)
    strange = (expected - returned).abs() > _TOLERANCE * (expected.abs() + abs(scale) * _SMALL)
    if strange.any():
        raise UnknownHead(
            f"{int(strange.any(1).sum())} of its {size} logits are neither a multiple of the outputs of its output"
            " embedding nor a soft cap of one"
        )
    return found
