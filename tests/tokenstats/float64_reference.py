"""The definitions of the token statistics, written out in float64 with a full matrix of logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.parts import StatisticColumns


def logits_of_head(hidden: Tensor, head: OutputHead, temperature: float = 1.0) -> Tensor:
    """z of every token, [N, V] in float64."""
    logits = hidden.double() @ head.weight.double().T
    if head.bias is not None:
        logits = logits + head.bias.double()
    logits = logits[:, : head.vocabulary_size] * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return logits / temperature


def reference(logits: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """Each statistic by its definition."""
    logits = logits.double()
    logsumexp = logits.logsumexp(-1)
    logprobs = logits - logsumexp.unsqueeze(1)
    top = logprobs.sort(dim=-1, descending=True).values
    probabilities = logprobs.exp()
    return {
        "logprob": logprobs.gather(1, ids.unsqueeze(1)).squeeze(1),
        "top1_logprob": top[:, 0],
        "top2_logprob": top[:, 1],
        "logsumexp": logsumexp,
        "entropy": -torch.where(probabilities > 0, probabilities * logprobs, 0.0).sum(-1),
        "mean_logit": logits.mean(-1),
    }


def assert_matches(columns: StatisticColumns, logits: Tensor, ids: Tensor, tolerance: float) -> None:
    """Within an absolute ``tolerance`` in nats, or a relative one of 1e-6."""
    for name, values in reference(logits, ids).items():
        torch.testing.assert_close(getattr(columns, name).double(), values, atol=tolerance, rtol=1e-6, msg=name)
    likeliest = logits.float().gather(1, columns.top1_id.unsqueeze(1)).squeeze(1)
    assert torch.equal(likeliest, logits.float().amax(-1))


def largest_relative_error(columns: StatisticColumns, logits: Tensor, ids: Tensor) -> float:
    """Over all statistics and rows: the error relative to the size of the row's logits, or to log V if that is larger.

    Rounding the logits themselves to float32 already costs half of 1.2e-7 by this measure.
    """
    logits = logits.double()
    size = logits.abs().where(logits.isfinite(), 0.0).amax(-1).clamp(min=math.log(logits.shape[1]))
    errors = []
    for name, values in reference(logits, ids).items():
        mine = getattr(columns, name).double()
        error = torch.where(mine == values, 0.0, (mine - values).abs())  # equal infinities
        errors.append(float((error / size).max()))
    return max(errors)
