"""Token statistics from logits that already exist: a decoding step, a slice of a forward pass.

Rows are taken a few at a time through one reused float32 scratch, so nothing of size [N, V] is allocated
beside the logits themselves. Within a row the vocabulary is cut into tiles that stay in the cache; the tiles
are merged exactly. The definitions are those of ``rlsf.tokenstats.statistics``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlsf.tokenstats.statistics import TokenStatistics

#: Bytes of float32 scratch on CPU, about a core's second-level cache: larger chunks are slower.
_SCRATCH_BYTES = 2 * 2**20
#: Bytes of it on other devices, which want large chunks.
_DEVICE_SCRATCH_BYTES = 128 * 2**20
#: Columns of a vocabulary tile. The softmax of a whole row of 152,000 logits loses a digit of the entropy.
_TILE = 4096
#: What stands in for a logit of minus infinity while products with its probability 0 are formed.
_MASKED = -1e30


class StatisticColumns(NamedTuple):
    """The seven statistics of N tokens, each of shape [N], in the order of ``STATISTIC_NAMES``.

    ``top1_id`` is int64, the others are float32, on the device of the logits.
    """

    logprob: Tensor
    top1_logprob: Tensor
    top2_logprob: Tensor
    top1_id: Tensor
    logsumexp: Tensor
    entropy: Tensor
    mean_logit: Tensor

    def to_token_statistics(self, vocabulary_size: int) -> TokenStatistics:
        """The same numbers as NumPy arrays in the container that a trace carries."""
        columns = {name: column.cpu().numpy() for name, column in self._asdict().items()}
        columns["top1_id"] = columns["top1_id"].astype("int32")
        return TokenStatistics(**columns, vocabulary_size=vocabulary_size)


def statistics_of_logits(logits: Tensor, ids: Tensor | None = None) -> StatisticColumns:
    """Statistics of the distributions softmax(logits) and of the tokens ``ids`` they produced.

    ``logits`` is [N, V] with V >= 2 in any floating dtype, raw: before temperature and before any filter. ``ids``
    is [N]; without it the tokens are the most likely ones (greedy decoding). Accumulates in float32, with errors
    of a few 1e-6 nats for V up to 152k. A masked token (logit -inf) has probability 0, and makes ``mean_logit``
    -inf. A row with NaN, +inf or nothing but -inf has a non-finite ``logsumexp``. Ties in the top go to the smaller
    id, and top 2 then equals top 1.
    """
    size, vocabulary = logits.shape
    columns = _allocate(size, logits.device)
    tile = min(_TILE, vocabulary)
    tiles = -(-vocabulary // tile)
    scratch_bytes = _SCRATCH_BYTES if logits.device.type == "cpu" else _DEVICE_SCRATCH_BYTES
    rows = max(1, min(size, scratch_bytes // (4 * tile * tiles)))
    scratch = torch.full((rows, tiles * tile), _MASKED, dtype=torch.float32, device=logits.device)
    products = torch.empty_like(scratch)
    for start in range(0, size, rows):
        chunk = logits[start : start + rows]
        window = slice(start, start + len(chunk))
        part = scratch[: len(chunk)]
        # The mean is the only statistic that a masked token turns infinite: taken before the masking value.
        columns.mean_logit[window] = chunk.mean(-1, dtype=torch.float32)
        part[:, :vocabulary].copy_(chunk).clamp_(min=_MASKED)
        _fill(columns, window, part.view(-1, tiles, tile), products[: len(chunk)].view(-1, tiles, tile))
    return columns._replace(logprob=columns.top1_logprob if ids is None else logprob_of(logits, ids, columns))


def logprob_of(logits: Tensor, ids: Tensor, columns: StatisticColumns) -> Tensor:
    """Log-probabilities of tokens ``ids`` [N] under the distributions whose statistics are ``columns``.

    Measured from the most likely token, so that its own logprob is exactly ``top1_logprob``.
    """
    chosen, largest = (logits.gather(1, which.unsqueeze(1)).squeeze(1).float() for which in (ids, columns.top1_id))
    return columns.top1_logprob + (chosen - largest)


def _allocate(size: int, device: torch.device) -> StatisticColumns:
    reals = torch.empty((6, size), dtype=torch.float32, device=device)
    top1_id = torch.empty(size, dtype=torch.int64, device=device)
    return StatisticColumns(reals[0], reals[1], reals[2], top1_id, reals[3], reals[4], reals[5])


def _fill(columns: StatisticColumns, rows: slice, logits: Tensor, probabilities: Tensor) -> None:
    """Everything but the chosen token's logprob and the mean, for a chunk ``logits`` of shape [r, tiles, tile].

    Overwrites ``logits``, and ``probabilities``, scratch of the same shape. All is relative to the row's maximum,
    else the entropy of large logits cancels. Per tile: log Z = max(z) - log(max(softmax(z))), which spares the
    subtraction and the exponential of a separate logsumexp, and u = sum p z; then over tiles
    entropy = log Z - sum_tile (Z_tile / Z) u_tile.
    """
    tile_max = logits.amax(-1)
    largest, top2, top1_id = _top_two(logits, tile_max)
    logits.sub_(largest[:, None, None])
    torch.softmax(logits, dim=-1, out=probabilities)
    tile_logsumexp = tile_max - largest.unsqueeze(1) - probabilities.amax(-1).log()
    tile_expectation = probabilities.mul_(logits).sum(-1)
    logsumexp = tile_logsumexp.logsumexp(-1).clamp_(min=0.0)
    share = (tile_logsumexp - logsumexp.unsqueeze(1)).exp()
    columns.logsumexp[rows] = (largest + logsumexp).masked_fill(largest <= _MASKED, -torch.inf)
    columns.entropy[rows] = (logsumexp - (share * tile_expectation).sum(-1)).clamp_(min=0.0)
    columns.top1_logprob[rows] = -logsumexp
    columns.top2_logprob[rows] = (top2 - largest - logsumexp).masked_fill_(top2 <= _MASKED, -torch.inf)
    columns.top1_id[rows] = top1_id


def _top_two(logits: Tensor, tile_max: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Largest and second largest logit of each row of [r, tiles, tile], and the id of the largest.

    ``max`` returns the first of equal maxima, over the tiles as within one, hence the smaller id. Only the winning
    tile is searched for positions: a maximum with its index costs several times a maximum.
    """
    rows = torch.arange(len(logits), device=logits.device)
    winner = tile_max.max(-1).indices
    inside = logits[rows, winner]
    top1, position = inside.max(-1)
    inside[rows, position] = -torch.inf
    others = tile_max.index_put((rows, winner), inside.amax(-1))
    return top1, others.amax(-1), winner * logits.shape[-1] + position
