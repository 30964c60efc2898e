"""The preference objective, as pure functions of sequence log-probabilities.

For a prompt x with chosen trace w and rejected trace l, the log-ratio of a trace is
``log pi(y|x) - log ref(y|x)``, summed over its tokens (nats), and ``h`` is the chosen log-ratio minus the rejected one.
Every function takes tensors of shape (pairs,) and returns one loss per pair, so that the mean over a batch does not
depend on how it is cut into forward passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_loss(h: Tensor, *, beta: float, label_smoothing: float = 0.0, offset: Tensor | float = 0.0) -> Tensor:
    """DPO with conservative smoothing e and an offset o: ``-(1-e) log s(z) - e log s(-z)``, ``z = beta h - o``.

    e = o = 0 is DPO (arXiv 2305.18290, eq. 7). With e > 0 the loss has its finite optimum at z = log((1-e)/e)
    (cDPO). A per-pair offset demands a larger log-ratio for a clearer preference (ODPO, arXiv 2402.10571), here with
    the identity in place of the paper's logarithm, which is negative for gaps below one.
    """
    z = beta * h - offset
    return -(1 - label_smoothing) * F.logsigmoid(z) - label_smoothing * F.logsigmoid(-z)


def ipo_loss(
    chosen_log_ratio: Tensor, rejected_log_ratio: Tensor, chosen_length: Tensor, rejected_length: Tensor, *, beta: float
) -> Tensor:
    """IPO (arXiv 2310.12036, eq. 17): ``(h - 1/(2 beta))^2`` with each log-ratio divided by its number of tokens.

    The division is TRL's, which took it over from the authors of IPO; the paper itself sums.
    """
    h = chosen_log_ratio / chosen_length.clamp(min=1) - rejected_log_ratio / rejected_length.clamp(min=1)
    return (h - 1 / (2 * beta)) ** 2


@dataclass(frozen=True, slots=True)
class PairLogprobs:
    """Summed log-probabilities (nats) and lengths (tokens) of the two traces of each pair; every field is (pairs,)."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor
    margin: Tensor | None = None
    weight: Tensor | None = None

    @property
    def chosen_log_ratio(self) -> Tensor:
        return self.chosen - self.reference_chosen

    @property
    def rejected_log_ratio(self) -> Tensor:
        return self.rejected - self.reference_rejected

    @property
    def chosen_nll(self) -> Tensor:
        """Negative log-likelihood of the chosen trace per token (nats)."""
        return -self.chosen / self.chosen_length.clamp(min=1)


@dataclass(frozen=True, slots=True)
class Objective:
    """``weight x preference loss + nll_weight x per-token NLL of the chosen trace``, per pair.

    The NLL term is that of iterative reasoning preference optimisation (arXiv 2404.19733, eq. 1): normalised by the
    trace's own length. It is not weighted, so that a hesitant preference still keeps its chosen trace likely.
    """

    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    beta: float = 0.1
    nll_weight: float = 0.0
    label_smoothing: float = 0.0
    margin_scale: float = 1.0

    def preference(self, pairs: PairLogprobs) -> Tensor:
        """The preference loss of each pair, its weight included; shape (pairs,)."""
        if self.loss == "ipo":
            losses = ipo_loss(
                pairs.chosen_log_ratio,
                pairs.rejected_log_ratio,
                pairs.chosen_length,
                pairs.rejected_length,
                beta=self.beta,
            )
        else:
            losses = sigmoid_loss(
                pairs.chosen_log_ratio - pairs.rejected_log_ratio,
                beta=self.beta,
                label_smoothing=self.label_smoothing,
                offset=0.0 if pairs.margin is None else self.margin_scale * pairs.margin,
            )
        return losses if pairs.weight is None else pairs.weight * losses

    def __call__(self, pairs: PairLogprobs) -> Tensor:
        """The loss of each pair; shape (pairs,)."""
        losses = self.preference(pairs)
        return losses + self.nll_weight * pairs.chosen_nll if self.nll_weight else losses


def gap_weights(gaps: Tensor) -> Tensor:
    """Confidence gaps (pairs,) as weights of mean one: ``gap_i / mean(gap)``; all ones where every gap is zero."""
    mean = gaps.mean()
    return gaps / mean if mean > 0 else torch.ones_like(gaps)
