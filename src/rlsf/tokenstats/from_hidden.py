"""Token statistics from hidden states and the output embedding, without the logits ever being in memory.

One pass over the vocabulary in tiles, accumulated online and merged exactly; logits are formed and compared in float32
whatever the precision of the weights, because rounding them to bfloat16 flips rankings. Which code does it is decided
by ``rlsf.tokenstats.backend``; the definitions are those of ``rlsf.tokenstats.statistics``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlsf.errors import InputError, ModelError
from rlsf.tokenstats.backend import Backend, choose_backend
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.parts import StatisticColumns
from rlsf.tokenstats.tiles import no_autocast
from rlsf.tokenstats.token_sets import flat_ids, masses

#: Rows converted to float32 at a time: few on a CPU for its cache, more where each step is a launch.
_CONVERTED_ROWS, _DEVICE_CONVERTED_ROWS = 256, 1024


def statistics_of_hidden(
    hidden: Tensor,
    head: OutputHead,
    ids: Tensor | None = None,
    *,
    temperature: float = 1.0,
    backend: Backend | None = None,
) -> StatisticColumns:
    """Statistics of the distributions softmax(z(h) / temperature) and of the tokens ``ids`` they produced.

    ``hidden`` is [N, d] in any floating dtype, ``ids`` [N]; without it the tokens are the most likely ones. Takes
    O(N) memory for the results and at most 32 MiB beside it on CPU. A row's statistics do not depend on the other
    rows, beyond rounding. The mean logit comes from the mean row of the embedding, (1/V) sum_v z_v =
    scale (h . mean(W) + mean(b)), without a pass over the vocabulary; under a soft cap it is summed in the pass. No
    gradients: see ``rlsf.tokenstats.differentiable``.

    Raises ``InputError`` where shapes, devices, ids or the temperature do not fit, ``ModelError`` for hidden states or
    weights that are not finite.
    """
    return _statistics(hidden, head, ids, temperature, backend, ranks=False)[0]


def statistics_and_ranks_of_hidden(
    hidden: Tensor, head: OutputHead, ids: Tensor, *, temperature: float = 1.0, backend: Backend | None = None
) -> tuple[StatisticColumns, Tensor]:
    """As ``statistics_of_hidden``, and the rank of each token: 1 + how many tokens have a larger logit, [N] int64."""
    columns, ranks = _statistics(hidden, head, ids, temperature, backend, ranks=True)
    assert ranks is not None
    return columns, ranks


def mass_of_tokens(
    hidden: Tensor,
    head: OutputHead,
    columns: StatisticColumns,
    token_sets: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Probability of each of S sets of tokens, [N, S] in float32: see ``rlsf.tokenstats.token_sets``.

    ``columns`` must be those of ``hidden`` [N, d] at the same temperature. Raises as ``statistics_of_hidden``, and for
    sets that are empty or name a token twice.
    """
    _check(hidden, head, None, temperature)
    flat = flat_ids(token_sets, head.vocabulary_size, hidden.device)
    with no_autocast(hidden.device):
        logits = head.logits_of(hidden, flat) / temperature
    return masses(logits, columns, token_sets)


@torch.no_grad()
def _statistics(
    hidden: Tensor,
    head: OutputHead,
    ids: Tensor | None,
    temperature: float,
    backend: Backend | None,
    *,
    ranks: bool,
) -> tuple[StatisticColumns, Tensor | None]:
    _check(hidden, head, ids, temperature)
    chosen = backend or choose_backend(hidden, head)
    tokens = torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device) if ids is None else ids.long()
    with no_autocast(hidden.device):
        blocks = [
            _block(*block, head, temperature, chosen, ranks)
            for block in zip(hidden.split(chosen.rows), tokens.split(chosen.rows), strict=True)
        ]
    columns = StatisticColumns(*(_joined(parts) for parts in zip(*(block[0] for block in blocks), strict=True)))
    if ids is None:
        columns = columns._replace(logprob=columns.top1_logprob)
    return columns, _joined([rank for _, rank in blocks if rank is not None]) if ranks else None


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _block(
    hidden: Tensor, ids: Tensor, head: OutputHead, temperature: float, backend: Backend, ranks: bool
) -> tuple[StatisticColumns, Tensor | None]:
    mean = _mean_logit(hidden, head)
    above = (_own_logits(hidden, head, ids) / temperature) if ranks else None
    parts = backend.parts(hidden, head, ids, temperature, total=head.softcap is not None, above=above)
    mean = mean / temperature if parts.total is None else parts.total.sum(-1) / head.vocabulary_size
    columns = parts.merge(mean)
    if parts.above is None:
        return columns, None
    return columns, torch.where(columns.top1_id == ids, 1, 1 + parts.above.sum(-1))


def _mean_logit(hidden: Tensor, head: OutputHead) -> Tensor:
    """scale (h . mean(W) + mean(b)), [N]; every element of a hidden state enters, so what is not finite shows here."""
    row, bias = head.mean_row()
    rows = _CONVERTED_ROWS if hidden.device.type == "cpu" else _DEVICE_CONVERTED_ROWS
    raw = _joined([some.float() @ row for some in hidden.split(rows)])
    if bias == float("inf") or bias != bias:
        raise ModelError(f"the bias of the output embedding {_shape(head.weight)} holds NaN or infinity")
    if not raw.isfinite().all():
        place = int((~raw.isfinite()).nonzero()[0])
        if hidden[place].isfinite().all():
            raise ModelError(f"the output embedding {_shape(head.weight)} is not finite: check the model's weights")
        raise ModelError(
            f"the hidden states {_shape(hidden)} hold {hidden[place].float().sum().item()} in row {place}: check the"
            " model's weights, or load them in float32 or bfloat16 instead of float16"
        )
    return head.scale * (raw + bias)


def _own_logits(hidden: Tensor, head: OutputHead, ids: Tensor) -> Tensor:
    pieces = zip(hidden.split(_CONVERTED_ROWS), ids.split(_CONVERTED_ROWS), strict=True)
    return torch.cat([head.own_logits(*piece) for piece in pieces])


def _check(hidden: Tensor, head: OutputHead, ids: Tensor | None, temperature: float) -> None:
    """Raise unless the arguments fit together."""
    if hidden.dim() != 2 or hidden.shape[1] != head.width or not hidden.is_floating_point():
        raise InputError(
            f"hidden states {_shape(hidden)} for an output embedding {_shape(head.weight)}: [N, {head.width}] is needed"
        )
    if hidden.device != head.weight.device:
        raise InputError(f"hidden states on {hidden.device}, the output embedding on {head.weight.device}")
    if not 0 < temperature < float("inf"):
        raise InputError(f"temperature={temperature}: it must be positive")
    if ids is None:
        return
    if ids.dim() != 1 or len(ids) != len(hidden) or ids.is_floating_point() or ids.device != hidden.device:
        raise InputError(f"token ids {_shape(ids)} for hidden states {_shape(hidden)}: one integer a row, same device")
    outside = (ids < 0) | (ids >= head.vocabulary_size)
    if outside.any():
        place = int(outside.nonzero()[0])
        raise InputError(
            f"token id {int(ids[place])} in row {place}, but the vocabulary has {head.vocabulary_size} tokens"
        )


def _shape(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} ({str(tensor.dtype).removeprefix('torch.')} on {tensor.device})"
