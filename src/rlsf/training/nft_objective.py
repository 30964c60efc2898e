"""The objective of negative-aware fine-tuning (NFT, arXiv 2505.18116), as pure functions of tensors.

For one prompt, p is the share of its completions that are right. The sampler pi_old is a mixture of what it does when
right and when wrong, ``pi_old = p pi_plus + (1 - p) pi_minus``; with the trained policy pi in the place of pi_plus,
wrong completions are fitted by the implied ``pi_minus = (pi_old - p pi) / (1 - p)``, so that they teach pi as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from rlsf.errors import InputError

#: w(p): 1, 1 - p or sqrt((1 - p) / p).
PromptWeight = Literal["one", "one_minus_p", "root_odds"]
#: Log-ratios are cut here before they are exponentiated: the published code of arXiv 2505.18116.
LARGEST_LOG_RATIO = 10.0
#: Pass rates are cut to this interval inside the loss: the published code of arXiv 2505.18116.
SMALLEST_PASS_RATE, LARGEST_PASS_RATE = 0.02, 0.98


@dataclass(frozen=True, slots=True)
class NftOptions:
    """The choices that NFT leaves open; the defaults are the paper's (arXiv 2505.18116).

    ``weight``: w(p) of a prompt. On-policy, ``one_minus_p`` is Dr. GRPO and ``root_odds`` is GRPO with the population's
    standard deviation; TRL's sample deviation makes that smaller by sqrt((K - 1) / K). ``eps``: the floor under the
    implied ratio of wrong completions, in (0, 1]. ``negative_weight``: factor of their loss, 0 for rejection
    fine-tuning. Raises ``InputError`` for values out of range.
    """

    weight: PromptWeight = "one_minus_p"
    eps: float = 1.0
    negative_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight not in get_args(PromptWeight):
            raise InputError(f"nft.weight={self.weight!r}: use {', '.join(get_args(PromptWeight))}")
        if not 0.0 < self.eps <= 1.0:
            raise InputError(f"nft.eps={self.eps}: the floor must be above 0 and at most 1")
        if not 0.0 <= self.negative_weight < math.inf:
            raise InputError(f"nft.negative_weight={self.negative_weight}: use 0 or a positive number")


def group_pass_rates(verdicts: Tensor, group_size: int) -> Tensor:
    """The share of right completions in each one's group; shape (rows,), like ``verdicts``.

    ``verdicts`` are 1, 0, or NaN for completions that do not count; groups are contiguous. NaN where none counts.
    """
    return verdicts.view(-1, group_size).nanmean(dim=1).repeat_interleave(group_size)


def teaches(verdicts: Tensor, pass_rates: Tensor) -> Tensor:
    """Which completions have a loss: those with a verdict, in a group with right ones and wrong ones; (rows,)."""
    return verdicts.isfinite() & (pass_rates > 0.0) & (pass_rates < 1.0)


def floored(values: Tensor, floor: float) -> Tensor:
    """maxv(x, eps) = x + stopgrad(max(x, eps) - x): the larger of the two, with the gradient of x in either case."""
    return torch.where(values >= floor, values, floor + (values - values.detach()))


def prompt_weights(pass_rates: Tensor, weight: PromptWeight) -> Tensor:
    """w(p) of each row, for p in (0, 1)."""
    if weight == "one":
        return torch.ones_like(pass_rates)
    if weight == "one_minus_p":
        return 1.0 - pass_rates
    return ((1.0 - pass_rates) / pass_rates).sqrt()


def token_losses(log_ratios: Tensor, verdicts: Tensor, pass_rates: Tensor, options: NftOptions) -> Tensor:
    """The loss of each token, ``-w(p) [r log R + (1 - r) log maxv((1 - p R) / (1 - p), eps)]``; (rows, tokens).

    ``log_ratios`` are log R = log pi - log pi_old in nats, (rows, tokens); ``verdicts`` r and ``pass_rates`` p are
    (rows,). Rows that do not teach have loss 0 and no gradient. p is the rate of whole completions, applied to tokens
    as published. With eps = 1 the loss of a wrong completion is 0 at R = 1 and never positive: its value says nothing.
    """
    kept = teaches(verdicts, pass_rates)
    right = torch.where(kept, verdicts, 1.0).bool()[:, None]
    rates = torch.where(kept, pass_rates, 0.5).clamp(SMALLEST_PASS_RATE, LARGEST_PASS_RATE)
    weights = torch.where(kept, prompt_weights(rates, options.weight), 0.0)[:, None]
    rates = rates[:, None]

    log_ratios = log_ratios.clamp(max=LARGEST_LOG_RATIO)
    implied = (1.0 - rates * log_ratios.exp()) / (1.0 - rates)
    of_wrong = options.negative_weight * floored(implied, options.eps).log()
    return -weights * torch.where(right, log_ratios, of_wrong)
