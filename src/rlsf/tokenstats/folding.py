"""Statistics of blocks of logits by PyTorch operations, in as few passes over the block as they allow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: What stands in for a logit of minus infinity while products with its probability 0 are formed.
MASKED = -1e30
#: Groups of a tile whose maxima are taken first: only the winning one is searched for the position and the second.
GROUPS = 32


class Folded(NamedTuple):
    """Of each row [r]: what ``VocabularyParts`` keeps of a part, without what concerns the row's own token."""

    top1: Tensor
    top2: Tensor
    top1_id: Tensor
    excess: Tensor
    expectation: Tensor


def fold(logits: Tensor, products: Tensor) -> Folded:
    """Fold ``logits`` [r, tiles, tile], float32, none below ``MASKED``, with ``tile`` a multiple of ``GROUPS``.

    Overwrites ``logits``, and ``products``, scratch of the same shape. A softmax over a tile much longer than 4096
    loses digits of the entropy, hence tiles. Per tile log Z = max(z) - log(max(softmax(z))), which spares the
    exponentials of a separate logsumexp, and u = sum p z; over tiles the expectation is sum_tile (Z_tile / Z) u_tile.
    """
    rows, tiles, tile = logits.shape
    groups = logits.view(rows, tiles * GROUPS, tile // GROUPS)
    group_max = groups.amax(-1)
    top1, top2, top1_id = _top_two(groups, group_max)
    tile_max = group_max.view(rows, tiles, GROUPS).amax(-1)
    logits.sub_(top1[:, None, None])
    torch.softmax(logits, dim=-1, out=products)
    tile_excess = tile_max - top1.unsqueeze(1) - products.amax(-1).log()
    tile_expectation = products.mul_(logits).sum(-1)
    excess = tile_excess.logsumexp(-1).clamp_(min=0.0)
    expectation = ((tile_excess - excess.unsqueeze(1)).exp() * tile_expectation).sum(-1)
    top1, top2 = (top.masked_fill(top <= MASKED, -torch.inf) for top in (top1, top2))
    return Folded(top1, top2, top1_id, excess, expectation)


def _top_two(groups: Tensor, group_max: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Largest and second largest logit of each row of [r, groups, size], and the place of the largest.

    ``max`` returns the first of equal maxima, over the groups as within one, hence the smaller id. Only the winning
    group is searched for positions: a maximum with its index costs several times a maximum.
    """
    rows = torch.arange(len(groups), device=groups.device)
    winner = group_max.max(-1).indices
    inside = groups[rows, winner]
    top1, position = inside.max(-1)
    inside[rows, position] = -torch.inf
    others = group_max.index_put((rows, winner), inside.amax(-1))
    return top1, others.amax(-1), winner * groups.shape[-1] + position
