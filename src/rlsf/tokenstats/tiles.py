"""Statistics from hidden states in tiles of PyTorch operations: every device, every precision, no compiler."""

from __future__ import annotations

import torch
from torch import Tensor

from rlsf.linear import onednn_is_faster, onednn_linear
from rlsf.tokenstats.folding import GROUPS, MASKED, fold
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.parts import VocabularyParts

#: Tokens of a tile, and bytes of the weights of one where they are copied in float32.
_TOKENS = 2048
_COPIED_BYTES = 4 * 2**20
#: Tokens of a tile on other devices than a CPU.
_DEVICE_TOKENS = 16384


def parts_by_tiles(
    hidden: Tensor, head: OutputHead, ids: Tensor, temperature: float, *, total: bool, above: Tensor | None
) -> VocabularyParts:
    """The parts of the vocabulary for a block of rows ``hidden`` [r, d] with tokens ``ids`` [r].

    ``total`` asks for the sums of logits, ``above`` [r] (the logits of ``ids``) for the counts above them.
    """
    dtype = product_dtype(hidden, head)
    width = tile_width(head, hidden.device, copied=head.weight.dtype != dtype)
    starts = range(0, head.vocabulary_size, width)
    # Everything that lasts is allocated first: between tiles it would pin the memory that they leave behind.
    parts = _allocate(len(starts), ids, total=total, above=above is not None)
    scratch = hidden.new_empty((2, len(hidden), width), dtype=torch.float32)
    weights = None if head.weight.dtype == dtype else head.weight.new_empty((width, head.width), dtype=dtype)
    masks = head.bias is not None and bool(head.bias.isneginf().any())
    states = hidden.to(dtype)
    for number, start in enumerate(starts):
        tokens = slice(start, min(start + width, head.vocabulary_size))
        count = tokens.stop - start
        weight = head.weight[tokens] if weights is None else weights[:count].copy_(head.weight[tokens])
        bias = None if head.bias is None else head.bias[tokens]
        logits = tile_logits(states, weight, bias, head, temperature)
        inside = (ids >= start) & (ids < tokens.stop)
        mine = logits.gather(1, (ids - start).clamp(0, count - 1).unsqueeze(1)).squeeze(1)
        parts.chosen[number] = mine.where(inside, -torch.inf)
        if parts.total is not None:
            parts.total[number] = logits.sum(-1)
        if above is not None and parts.above is not None:
            parts.above[number] = (logits > above.unsqueeze(1)).sum(-1) - (inside & (mine > above)).long()
        if masks:
            logits.clamp_(min=MASKED)
        folded = fold(_padded(logits, scratch[0]), scratch[1][:, : _whole(count)].unsqueeze(1))
        for name, values in folded._replace(top1_id=folded.top1_id + start)._asdict().items():
            getattr(parts, name)[number] = values
    return parts._replace(**{name: column.T for name, column in parts._asdict().items() if column is not None})


def _allocate(count: int, ids: Tensor, *, total: bool, above: bool) -> VocabularyParts:
    """Room for ``count`` parts of the rows of ``ids`` [r], each [count, r]."""
    shape = (count, len(ids))
    top1, top2, excess, expectation, chosen = ids.new_empty((5, *shape), dtype=torch.float32)
    return VocabularyParts(
        *(top1, top2, ids.new_empty(shape), excess, expectation, chosen),
        total=torch.empty_like(top1) if total else None,
        above=ids.new_empty(shape) if above else None,
    )


def tile_width(head: OutputHead, device: torch.device, *, copied: bool) -> int:
    """Tokens of a tile; ``copied`` where something of the size of the tile's weights is held in float32 beside it."""
    width = _TOKENS if device.type == "cpu" else _DEVICE_TOKENS
    if copied:
        width = min(width, max(_COPIED_BYTES // (4 * head.width), 1))
    return _whole(min(width, head.vocabulary_size))


def no_autocast(device: torch.device) -> torch.autocast:
    """Autocast off: it would form logits in half precision behind the back of a caller who asks for float32."""
    return torch.autocast(device.type, enabled=False)


def _whole(tokens: int) -> int:
    """So many tokens that they divide into groups."""
    return -(-tokens // GROUPS) * GROUPS


def product_dtype(hidden: Tensor, head: OutputHead) -> torch.dtype:
    """The precision in which hidden states and weights are multiplied; the products are float32 in any case."""
    alike = hidden.dtype == head.weight.dtype and hidden.dtype.itemsize == 2
    return hidden.dtype if alike and hidden.device.type != "cpu" else torch.float32


def tile_logits(states: Tensor, weight: Tensor, bias: Tensor | None, head: OutputHead, temperature: float) -> Tensor:
    """Logits of the tokens with these rows of the head's ``weight`` [w, d] and ``bias`` [w], [r, w] in float32.

    ``states`` [r, d] are of the ``product_dtype``. Fresh memory.
    """
    bias = None if bias is None else bias.float()
    if states.dtype != torch.float32:
        raw = torch.mm(states, weight.T, out_dtype=torch.float32)
        raw = raw if bias is None else raw.add_(bias)
    elif states.device.type == "cpu" and onednn_is_faster():
        raw = onednn_linear(states, weight.float(), bias)
    else:
        raw = torch.nn.functional.linear(states, weight.float(), bias)
    logits = head.finish(raw)
    return logits if temperature == 1.0 else logits.div_(temperature)


def _padded(logits: Tensor, scratch: Tensor) -> Tensor:
    """The tile as [r, 1, w] with w a multiple of the groups, in ``scratch`` where it must grow."""
    width = logits.shape[1]
    if width % GROUPS == 0:
        return logits.unsqueeze(1)
    padded = scratch[:, : _whole(width)]
    padded[:, width:] = MASKED
    padded[:, :width] = logits
    return padded.unsqueeze(1)
