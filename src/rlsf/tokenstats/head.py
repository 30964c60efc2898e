"""The last layer of a language model: how a hidden state becomes logits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from rlsf.errors import InputError

#: Elements of the float64 scratch in which rows of the embedding are summed.
_SUMMING = 2**20


class _MeanRow(NamedTuple):
    """Means over the vocabulary, and of which weights: their places and versions, and some of their elements."""

    key: tuple[int, ...]
    seen: list[Tensor]
    weight: Tensor
    bias: float


@lru_cache(maxsize=8)
def _some_places(shape: torch.Size, device: torch.device, count: int = 4096) -> tuple[Tensor, ...]:
    """Indices of elements spread over rows and columns, kept, as several heads and many calls ask for the same."""
    places = torch.arange(count, device=device)
    rows = places * shape[0] // count
    return (rows,) if len(shape) == 1 else (rows, places * 7919 % shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class OutputHead:
    """z(h) = cap(scale (W h + b)) with cap(x) = x, or softcap tanh(x / softcap) (Gemma 2, arXiv 2408.00118, section 2).

    ``weight`` W is [V, d], ``bias`` b [V] or None; -inf in it masks a token, or gives it -softcap under a soft cap.
    ``scale`` multiplies (Cohere's ``logit_scale``; Granite divides by its ``logits_scaling``). A ``vocabulary_size``
    below V leaves the last rows out, where an embedding is padded with rows that stand for no token; by default all
    rows count, as in the model's own softmax.

    Raises ``InputError`` for shapes, devices or numbers that do not fit together.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    vocabulary_size: int = 0
    _kept: list[_MeanRow] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.weight.dim() != 2 or len(self.weight) < 2:
            raise InputError(f"an output embedding is [V, d] with V >= 2, this one is {list(self.weight.shape)}")
        size = self.vocabulary_size or len(self.weight)
        if not 2 <= size <= len(self.weight):
            raise InputError(f"vocabulary_size={size} of an output embedding of {len(self.weight)} rows")
        object.__setattr__(self, "vocabulary_size", size)
        bias = self.bias
        if bias is not None and (bias.shape != self.weight.shape[:1] or bias.device != self.weight.device):
            raise InputError(
                f"a bias of shape {list(bias.shape)} on {bias.device} for an output embedding of shape"
                f" {list(self.weight.shape)} on {self.weight.device}"
            )
        if not (math.isfinite(self.scale) and self.scale):
            raise InputError(f"scale={self.scale}: it must be finite and not zero")
        if self.softcap is not None and not 0 < self.softcap < math.inf:
            raise InputError(f"softcap={self.softcap}: it must be positive")

    @property
    def width(self) -> int:
        """d, the size of a hidden state."""
        return self.weight.shape[1]

    def finish(self, raw: Tensor) -> Tensor:
        """z of W h + b, elementwise."""
        scaled = raw * self.scale if self.scale != 1.0 else raw
        return scaled if self.softcap is None else self.softcap * torch.tanh(scaled / self.softcap)

    def logits_of(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """z of S tokens in every row, ``hidden`` [N, d], ``ids`` [S] -> [N, S] in float32."""
        return self._finish_of(hidden.float() @ self.weight[ids].float().T, ids)

    def own_logits(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """z of each row's own token, ``hidden`` [N, d], ``ids`` [N] -> [N] in float32; for some hundred rows."""
        return self._finish_of((hidden.float() * self.weight[ids].float()).sum(-1), ids)

    def _finish_of(self, raw: Tensor, ids: Tensor) -> Tensor:
        return self.finish(raw if self.bias is None else raw + self.bias[ids].float())

    def mean_row(self) -> tuple[Tensor, float]:
        """Mean over the vocabulary of the rows of W, [d] in float32, and of b; kept until the weights change.

        A change is noticed by the version that PyTorch counts, and, as fused optimisers do not count, by 4096 elements
        spread over the weights.
        """
        parts = [part.detach() for part in (self.weight, self.bias) if part is not None]
        key = tuple(number for part in parts for number in (part.data_ptr(), part._version))
        seen = [part[_some_places(part.shape, part.device)] for part in parts]
        if not (self._kept and self._kept[0].key == key and all(map(torch.equal, self._kept[0].seen, seen))):
            mean = (self._sum_rows() / self.vocabulary_size).float()
            self._kept[:] = [_MeanRow(key, seen, mean, self._mean_bias())]
        return self._kept[0].weight, self._kept[0].bias

    @torch.no_grad()
    def _sum_rows(self) -> Tensor:
        total = self.weight.new_zeros(self.width, dtype=torch.float64)
        for rows in self.weight[: self.vocabulary_size].split(max(1, _SUMMING // self.width)):
            total += rows.double().sum(0)
        return total

    def _mean_bias(self) -> float:
        return 0.0 if self.bias is None else float(self.bias[: self.vocabulary_size].detach().double().mean())
