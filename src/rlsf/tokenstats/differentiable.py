"""Token statistics from hidden states with gradients, without the logits ever being in memory, forward or backward.

For losses with terms such as entropy or self-certainty. With z = cap(scale (W h + b)) / temperature, p = softmax(z),
H = -sum_v p_v log p_v and the row's token y,

    d logprob / dz_v = 1[v = y] - p_v        d logsumexp / dz_v  = p_v
    d entropy / dz_v = -p_v (log p_v + H)    d mean_logit / dz_v = 1 / V

(entropy: dp_u/dz_v = p_u (1[u = v] - p_v) gives -p_v (log p_v + 1) + p_v sum_u p_u (log p_u + 1), and that sum is
1 - H). So with the gradients g of a loss L with respect to a row's statistics

    dL/dz_v = p_v (g_logsumexp - g_logprob - g_entropy (log p_v + H)) + g_mean_logit / V + 1[v = y] g_logprob

and with a = W h + b, as cap'(x) = 1 - (cap(x) / softcap)^2 and cap(x) = temperature z,

    dL/da_v = dL/dz_v (1 - (temperature z_v / softcap)^2) scale / temperature
    dL/dh = sum_v dL/da_v W_v        dL/dW_v = sum_rows dL/da_v h        dL/db_v = sum_rows dL/da_v

The backward pass forms the logits again, a tile of rows and tokens at a time, with log p_v = z_v - logsumexp.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlsf.linear import onednn_is_faster, onednn_linear
from rlsf.tokenstats.backend import Backend
from rlsf.tokenstats.from_hidden import statistics_of_hidden
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.parts import StatisticColumns
from rlsf.tokenstats.tiles import no_autocast, product_dtype, tile_logits, tile_width

#: Rows of a tile of the backward pass.
_ROWS = 512


class DifferentiableStatistics(NamedTuple):
    """Statistics of N tokens, each [N]; float32 but for ``top1_id`` (int64). The last three have no gradient.

    ``self_certainty`` = logsumexp - mean_logit - log V, with gradient p_v - 1/V with respect to z_v. The others are
    those of ``rlsf.tokenstats.statistics``.
    """

    logprob: Tensor
    entropy: Tensor
    logsumexp: Tensor
    mean_logit: Tensor
    self_certainty: Tensor
    top1_logprob: Tensor
    top2_logprob: Tensor
    top1_id: Tensor


def differentiable_statistics(
    hidden: Tensor, head: OutputHead, ids: Tensor, *, temperature: float = 1.0, backend: Backend | None = None
) -> DifferentiableStatistics:
    """Statistics of softmax(z(h) / temperature) and of its tokens ``ids``, differentiable once.

    ``hidden`` [N, d], ``ids`` [N]. Gradients reach ``hidden``, ``head.weight`` and ``head.bias``, each only if it
    requires one, in its own dtype; they are summed in float32, also under autocast. Rows of the weights from
    ``vocabulary_size`` on and masked tokens (bias -inf) get zero, but a mask makes ``mean_logit`` -inf and
    ``self_certainty`` inf, which no loss can use. Values are those of ``statistics_of_hidden``, from the same pass;
    the backward pass takes about three products of hidden states and weights. Peak memory beside the gradients is that
    of a few tiles (10 to 30 MiB on CPU for d up to 2048), and N d float32 numbers where hidden states in half precision
    require a gradient.

    Raises as ``statistics_of_hidden``; differentiation with ``create_graph=True`` raises
    ``RuntimeError``.
    """
    columns = StatisticColumns(*_Statistics.apply(hidden, head.weight, head.bias, head, ids, temperature, backend))
    return DifferentiableStatistics(
        logprob=columns.logprob,
        entropy=columns.entropy,
        logsumexp=columns.logsumexp,
        mean_logit=columns.mean_logit,
        self_certainty=columns.logsumexp - columns.mean_logit - math.log(head.vocabulary_size),
        top1_logprob=columns.top1_logprob,
        top2_logprob=columns.top2_logprob,
        top1_id=columns.top1_id,
    )


class _Statistics(torch.autograd.Function):
    """The seven columns of ``statistics_of_hidden`` with the gradients written above."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: OutputHead,
        ids: Tensor,
        temperature: float,
        backend: Backend | None,
    ) -> tuple[Tensor, ...]:
        columns = statistics_of_hidden(hidden, head, ids, temperature=temperature, backend=backend)
        ctx.save_for_backward(hidden, weight, bias, ids.long(), columns.logsumexp, columns.entropy)
        # Not the head itself: its tensors must come back through the hooks of saved tensors, which may have moved them.
        ctx.numbers = (head.scale, head.softcap, head.vocabulary_size)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(columns.top1_logprob, columns.top2_logprob, columns.top1_id)
        ctx.set_materialize_grads(False)
        return tuple(columns)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        # PyTorch's once_differentiable lets this pass where the upstream gradient is a constant, and drops a term.
        if torch.is_grad_enabled():
            raise RuntimeError("statistics of hidden states can be differentiated once, not with create_graph=True")
        hidden, weight, bias, ids, logsumexp, entropy = ctx.saved_tensors
        head = OutputHead(weight, bias, *ctx.numbers)
        to_logprob, _, _, _, to_logsumexp, to_entropy, to_mean_logit = upstream
        factor = torch.zeros_like(logsumexp) if to_logsumexp is None else to_logsumexp
        factor = factor if to_logprob is None else factor - to_logprob
        rows = _Rows(
            ids=ids,
            logsumexp=logsumexp,
            factor=factor if to_entropy is None else factor - to_entropy * entropy,
            slope=None if to_entropy is None else -to_entropy,
            offset=None if to_mean_logit is None else to_mean_logit / head.vocabulary_size,
            chosen=to_logprob,
        )
        with no_autocast(hidden.device):
            return *_gradients(hidden, head, rows, ctx.temperature, ctx.needs_input_grad), None, None, None, None


@dataclass(frozen=True, slots=True)
class _Rows:
    """Of each row [N]: dL/dz_v = p_v (factor + slope log p_v) + offset + 1[v = id] chosen; None where there is none."""

    ids: Tensor
    logsumexp: Tensor
    factor: Tensor
    slope: Tensor | None
    offset: Tensor | None
    chosen: Tensor | None

    def part(self, window: slice) -> _Rows:
        """Some of the rows."""
        slope, offset, chosen = (
            None if column is None else column[window] for column in (self.slope, self.offset, self.chosen)
        )
        return _Rows(self.ids[window], self.logsumexp[window], self.factor[window], slope, offset, chosen)


def _gradients(
    hidden: Tensor, head: OutputHead, rows: _Rows, temperature: float, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of the hidden states, the weight and the bias, each where it is ``needed``.

    Tokens are the outer loop, so that a tile of the weight's gradient is summed over all rows before it is rounded.
    """
    to_hidden = torch.zeros_like(hidden, dtype=torch.float32) if needed[0] else None
    to_weight = torch.zeros_like(head.weight) if needed[1] else None
    to_bias = torch.zeros_like(head.bias) if head.bias is not None and needed[2] else None
    dtype = product_dtype(hidden, head)
    width = tile_width(head, hidden.device, copied=True)
    for start in range(0, head.vocabulary_size, width):
        tokens = slice(start, min(start + width, head.vocabulary_size))
        weight = head.weight[tokens].to(dtype)
        exact = weight.float()
        bias = None if head.bias is None else head.bias[tokens].float()
        weight_sum, bias_sum = (
            None if total is None else torch.zeros_like(total[tokens], dtype=torch.float32)
            for total in (to_weight, to_bias)
        )
        for window in (slice(first, first + _ROWS) for first in range(0, len(hidden), _ROWS)):
            states = hidden[window].to(dtype)
            logits = tile_logits(states, weight, bias, head, temperature)
            gradient = _gradient_before_cap(logits, bias, start, rows.part(window), head, temperature)
            if to_hidden is not None:
                _add_product(to_hidden[window], gradient, exact)
            if weight_sum is not None:
                _add_product(weight_sum, gradient.T, states.float())
            if bias_sum is not None:
                bias_sum += gradient.sum(0)
        if to_weight is not None and weight_sum is not None:
            to_weight[tokens] = weight_sum
        if to_bias is not None and bias_sum is not None:
            to_bias[tokens] = bias_sum
    return None if to_hidden is None else to_hidden.to(hidden.dtype), to_weight, to_bias


def _gradient_before_cap(
    logits: Tensor, bias: Tensor | None, start: int, rows: _Rows, head: OutputHead, temperature: float
) -> Tensor:
    """dL/da [r, w] of the tokens from ``start`` on, in the memory of their ``logits``, with float32 ``bias`` [w]."""
    damping = None if head.softcap is None else (logits * (temperature / head.softcap)).square_().neg_().add_(1.0)
    log_probability = logits.sub_(rows.logsumexp.unsqueeze(1))
    probability = log_probability.exp()
    if rows.slope is None:
        gradient = torch.mul(probability, rows.factor.unsqueeze(1), out=log_probability)
    else:
        gradient = log_probability.mul_(rows.slope.unsqueeze(1)).add_(rows.factor.unsqueeze(1)).mul_(probability)
    if rows.offset is not None:
        gradient.add_(rows.offset.unsqueeze(1))
    if rows.chosen is not None:
        place = rows.ids - start
        inside = (place >= 0) & (place < gradient.shape[1])
        place = place.clamp(0, gradient.shape[1] - 1).unsqueeze(1)
        gradient.scatter_add_(1, place, rows.chosen.where(inside, 0.0).unsqueeze(1))
    if damping is not None:
        gradient.mul_(damping)
    gradient.mul_(head.scale / temperature)
    # Masked tokens, where the product of probability 0 and an infinite logarithm has left NaN.
    return gradient if bias is None else gradient.masked_fill_(bias.isneginf(), 0.0)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total`` += ``left`` @ ``right``."""
    if total.device.type == "cpu" and onednn_is_faster():
        total.add_(onednn_linear(left, right.T))
    else:
        total.addmm_(left, right)
