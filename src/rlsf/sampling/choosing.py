"""Choosing the next token: the K most likely ones, or a draw from the filtered distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from rlsf.sampling.config import SamplingConfig

#: Bytes of float64 probabilities held at once while drawing.
_SCRATCH_BYTES = 32 * 2**20


def most_likely(logits: Tensor, count: int) -> Tensor:
    """Ids of the ``count`` largest logits of each row, [P, V] -> [P, count], best first, ties to the smaller id.

    ``topk`` alone leaves the order of ties open, and with it which token is branch k (arXiv 2402.10200, section 2).
    """
    least = logits.topk(count, dim=-1).values[:, -1]
    ranked = []
    for row, threshold in zip(logits, least, strict=True):
        candidates = (row >= threshold).nonzero().squeeze(1)
        order = row[candidates].argsort(descending=True, stable=True)
        ranked.append(candidates[order[:count]])
    return torch.stack(ranked)


def draw(logits: Tensor, uniforms: Tensor, config: SamplingConfig) -> Tensor:
    """Tokens by inversion of the filtered distribution, laid out in the order of token ids.

    ``logits`` [N, V] raw, ``uniforms`` [N, S] float64 in [0, 1) -> ids [N, S]. The token for u is the first whose
    cumulative probability exceeds u.
    """
    rows = max(1, _SCRATCH_BYTES // (8 * logits.shape[1]))
    parts = [
        _invert(filtered(logits[start : start + rows], config), uniforms[start : start + rows])
        for start in range(0, len(logits), rows)
    ]
    return torch.cat(parts)


def _invert(logits: Tensor, uniforms: Tensor) -> Tensor:
    cumulative = torch.softmax(logits, dim=-1).double().cumsum(-1)
    targets = uniforms * cumulative[:, -1:]
    ids = torch.searchsorted(cumulative, targets, right=True)
    # A product rounded up to the total would point past the last token that has any probability.
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())
    return torch.minimum(ids, last)


def filtered(logits: Tensor, config: SamplingConfig) -> Tensor:
    """Float32 logits over the temperature, with everything outside top-k, top-p and min-p at -inf.

    In the order in which transformers applies them: temperature, top-k, top-p, min-p, each on the distribution
    that the former left.
    """
    logits = logits.float() / config.temperature
    if 0 < config.top_k < logits.shape[-1]:
        least = logits.topk(config.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if config.top_p < 1.0:
        logits = _nucleus(logits, config.top_p)
    if config.min_p > 0.0:
        probabilities = torch.softmax(logits, dim=-1)
        least = config.min_p * probabilities.amax(-1, keepdim=True)
        logits = logits.masked_fill(probabilities < least, -torch.inf)
    return logits


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the most likely tokens up to the one with which their probability reaches ``top_p``."""
    ordered, ids = torch.softmax(logits, dim=-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.double().cumsum(-1) - ordered
    outside = torch.empty_like(before, dtype=torch.bool).scatter_(1, ids, before >= top_p)
    return logits.masked_fill(outside, -torch.inf)
