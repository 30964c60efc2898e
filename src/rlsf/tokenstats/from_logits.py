"""Token statistics from logits that already exist: a decoding step, a slice of a forward pass.

Rows are taken a few at a time through one reused float32 scratch, so nothing of size [N, V] is allocated
beside the logits themselves. Within a row the vocabulary is cut into tiles that stay in the cache; the tiles
are merged exactly. The definitions are those of ``rlsf.tokenstats.statistics``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlsf.tokenstats.folding import GROUPS, MASKED, fold
from rlsf.tokenstats.parts import StatisticColumns
from rlsf.tokenstats.token_sets import flat_ids, masses

#: Bytes of float32 scratch on CPU, about a core's second-level cache: larger chunks are slower.
_SCRATCH_BYTES = 2 * 2**20
#: Bytes of it on other devices, which want large chunks.
_DEVICE_SCRATCH_BYTES = 128 * 2**20
#: Columns of a vocabulary tile.
_TILE = 4096


def statistics_of_logits(logits: Tensor, ids: Tensor | None = None, *, temperature: float = 1.0) -> StatisticColumns:
    """Statistics of the distributions softmax(logits / temperature) and of the tokens ``ids`` they produced.

    ``logits`` is [N, V] with V >= 2 in any floating dtype, raw: before temperature and before any filter. ``ids``
    is [N]; without it the tokens are the most likely ones (greedy decoding). Accumulates in float32, with errors
    of a few 1e-6 nats for V up to 152k. A masked token (logit -inf) has probability 0, and makes ``mean_logit``
    -inf. A row with NaN, +inf or nothing but -inf has a non-finite ``logsumexp``. Ties in the top go to the smaller
    id, and top 2 then equals top 1.
    """
    size, vocabulary = logits.shape
    columns = _allocate(size, logits.device)
    tile = -(-min(_TILE, vocabulary) // GROUPS) * GROUPS
    tiles = -(-vocabulary // tile)
    scratch_bytes = _SCRATCH_BYTES if logits.device.type == "cpu" else _DEVICE_SCRATCH_BYTES
    rows = max(1, min(size, scratch_bytes // (4 * tile * tiles)))
    scratch = torch.full((rows, tiles * tile), MASKED, dtype=torch.float32, device=logits.device)
    products = torch.empty_like(scratch)
    for start in range(0, size, rows):
        chunk = logits[start : start + rows]
        window = slice(start, start + len(chunk))
        part = scratch[: len(chunk)]
        # The mean is the only statistic that a masked token turns infinite: taken before the masking value.
        columns.mean_logit[window] = chunk.mean(-1, dtype=torch.float32) / temperature
        real = part[:, :vocabulary].copy_(chunk)
        (real if temperature == 1.0 else real.div_(temperature)).clamp_(min=MASKED)
        folded = fold(part.view(-1, tiles, tile), products[: len(chunk)].view(-1, tiles, tile))
        columns.top1_id[window] = folded.top1_id
        columns.top1_logprob[window] = -folded.excess
        columns.top2_logprob[window] = folded.top2 - folded.top1 - folded.excess
        columns.logsumexp[window] = folded.top1 + folded.excess
        columns.entropy[window] = (folded.excess - folded.expectation).clamp_(min=0.0)
    if ids is None:
        return columns._replace(logprob=columns.top1_logprob)
    # Measured from the most likely token, so that its own logprob is exactly top1_logprob.
    distance = _logits_of(logits, ids) - _logits_of(logits, columns.top1_id)
    return columns._replace(logprob=columns.top1_logprob + distance / temperature)


def ranks_of_logits(logits: Tensor, ids: Tensor) -> Tensor:
    """The rank of each token: 1 + how many tokens have a larger logit, ``logits`` [N, V], ``ids`` [N] -> [N] int64."""
    rows = max(1, _SCRATCH_BYTES // logits.shape[1])  # a byte for each comparison
    chosen = _logits_of(logits, ids).unsqueeze(1)
    return 1 + torch.cat(
        [(some > own).sum(-1) for some, own in zip(logits.split(rows), chosen.split(rows), strict=True)]
    )


def mass_of_logits(
    logits: Tensor, columns: StatisticColumns, token_sets: Sequence[Sequence[int]], *, temperature: float = 1.0
) -> Tensor:
    """Probability of each of S sets of tokens, [N, S] in float32: see ``rlsf.tokenstats.token_sets``.

    ``columns`` must be those of ``logits`` [N, V] at the same temperature.
    """
    flat = flat_ids(token_sets, logits.shape[1], logits.device)
    return masses(logits[:, flat].float() / temperature, columns, token_sets)


def _logits_of(logits: Tensor, ids: Tensor) -> Tensor:
    return logits.gather(1, ids.unsqueeze(1)).squeeze(1).float()


def _allocate(size: int, device: torch.device) -> StatisticColumns:
    reals = torch.empty((6, size), dtype=torch.float32, device=device)
    top1_id = torch.empty(size, dtype=torch.int64, device=device)
    return StatisticColumns(reals[0], reals[1], reals[2], top1_id, reals[3], reals[4], reals[5])
