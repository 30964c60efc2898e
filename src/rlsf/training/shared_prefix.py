"""Traces of one prompt in one row, so that the tokens they begin with, above all the prompt, are read once."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Of the cost of all rows, the joined ones must save this share.
_SAVING = 0.2
#: A layer multiplies 12 width^2 times for a position, and attention 2 width times for each one that it may look at.
_PER_WIDTH = 6
#: A longer row is not made: the mask of what it may look at takes the square of its length in memory.
_LONGEST = 2048
_PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """A causal model with TRL's fused head that reads traces of one prompt as one row; called as the model itself.

    A row is the tokens that all its sides begin with, and then what follows in each of them, at the positions it has
    there; no side sees another, and the last common token, from which all go on, stands before each. The last token of
    a side predicts nothing and is left out. Outputs are those of the rows as given, in their order, up to rounding, and
    so are gradients, since those of the common tokens add up. Batches for which that would hardly save anything go to
    the model as they are; what is done depends on the batch alone.
    """

    model: Any
    eager: bool = False
    """The model's attention adds the mask, in place of applying it."""
    saving: float = _SAVING
    width: float = math.inf
    """The length of a row at which attention takes as long as all else: then fewer sides are put into one."""
    prompt: int | None = None
    """Columns of the prompt: rows that are the same there are sides of one row. None: [chosen; rejected] are pairs."""

    def __call__(self, *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **options: Any) -> Any:
        """As the model with ``fused_lm_head``: ids, mask (padding on either side) and labels, (rows, longest)."""
        # What else there may be of each row, images above all, is joined by nobody.
        others = any(isinstance(option, Tensor) for option in options.values())
        rows = None if others else self._joined(input_ids, attention_mask)
        if rows is None:
            return self.model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **options)
        following = labels.roll(-1, 1)
        outputs = self.model(
            input_ids=rows.join(input_ids),
            attention_mask=self._mask(rows.visible()),
            position_ids=rows.column,
            labels=None,
            shift_labels=rows.join(input_ids.roll(-1, 1)).masked_fill(~rows.joined_any(following != -100), -100),
            **options,
        )
        scored = labels[:, 1:] != -100
        fields = {name: getattr(outputs, name) for name in _PER_TOKEN}
        parted = {name: rows.part(each) * scored for name, each in fields.items() if each is not None}
        return dataclasses.replace(outputs, **parted, label_mask=scored)

    def _joined(self, ids: Tensor, mask: Tensor) -> _Rows | None:
        """The rows to read in place of those given, with as many sides as is cheapest; None to read those given."""
        beginnings = (mask[:, 1:] > mask[:, :-1]).sum(1) + mask[:, 0]
        if (beginnings != 1).any():  # gaps, or rows of nothing
            return None
        groups, best, least = self._groups(ids, mask), None, (1 - self.saving) * self._cost(*ids.shape)
        sides = int(groups.bincount().max())
        while sides > 1:
            rows = _Rows.of(ids, mask, _divided(groups, sides))
            cost = self._cost(*rows.source.shape)
            if cost <= least and 0 < rows.source.size(1) <= _LONGEST:
                best, least = rows, cost
            sides = (sides + 1) // 2
        return best

    def _cost(self, rows: int, length: int) -> float:
        """In positions, as if each took as long as one that sees few others."""
        return rows * length * (1 + length / self.width)

    def _groups(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The number of the joined row that each of the rows given is a side of, (rows,)."""
        if self.prompt is None:
            return torch.arange(len(ids) // 2, device=ids.device).repeat(2)
        prompts = ids.masked_fill(mask == 0, -1)[:, : self.prompt]
        return torch.unique(prompts, dim=0, return_inverse=True)[1]

    def _mask(self, visible: Tensor) -> Tensor:
        if not self.eager:
            return visible
        dtype = next(self.model.parameters()).dtype
        return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


@dataclass(frozen=True, slots=True)
class _Rows:
    """How positions of the rows given, the sides, and of the joined ones correspond.

    With s columns in common, a joined row is those of any side, then each side's own from column s on, but for its last
    token.
    """

    place: Tensor
    """Where a position of a side is found, in all joined rows one after the other, (sides, longest)."""
    predicts: Tensor
    """Which positions of a side have a next one, (sides, longest)."""
    source: Tensor
    """The position of the sides, one after the other, that a position of a joined row is taken from, (rows, length)."""
    side: Tensor
    """The side that a position of a joined row belongs to, counted from 1; 0 where it is common, -1 where padding."""

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor, groups: Tensor) -> _Rows:
        """``groups``: the joined row that each side belongs to, (sides,), counted from 0; masks are without gaps."""
        columns = torch.arange(ids.size(1), device=ids.device)
        first, last = mask.long().argmax(1), ids.size(1) - 1 - mask.long().flip(1).argmax(1)
        count, sides = int(groups.max()) + 1, torch.arange(len(groups), device=ids.device)
        leader = sides.new_full((count,), len(groups)).scatter_reduce(0, groups, sides, "amin")[groups]
        same = (mask == mask[leader]) & ((ids == ids[leader]) | (mask == 0))
        common = torch.minimum(same.long().cumprod(1).sum(1) - 1, last)
        shared = torch.full_like(groups[:count], ids.size(1)).scatter_reduce(0, groups, common, "amin")[groups]
        begin = torch.maximum(shared, first)
        own = last - begin
        in_order = groups.argsort(stable=True)
        before = torch.empty_like(own).index_copy(0, in_order, own[in_order].cumsum(0) - own[in_order])
        before = before - before[leader] + begin - first
        length = int((before + own).max())
        inside = torch.where(columns < begin[:, None], columns - first[:, None], columns + (before - begin)[:, None])
        place = groups[:, None] * length + inside.clamp(0, length - 1)
        predicts = (columns >= first[:, None]) & (columns < last[:, None])
        # Positions in common are written once a side, the same each time.
        source = place.new_zeros(count * length)
        source[place[predicts]] = torch.arange(ids.numel(), device=ids.device).view_as(ids)[predicts]
        side = torch.full_like(source, -1)
        side[place[predicts]] = torch.where(columns < begin[:, None], 0, 1 + sides[:, None])[predicts]
        return cls(place, predicts, source.view(count, length), side.view(count, length))

    @property
    def column(self) -> Tensor:
        """Of each position within its side, (rows, length)."""
        return self.source % self.place.size(1)

    def join(self, values: Tensor) -> Tensor:
        """(sides, longest) as (rows, length): what sides share is taken from one of them."""
        return values.flatten()[self.source]

    def joined_any(self, flags: Tensor) -> Tensor:
        """Where a position is one that is flagged in a side that it belongs to; never where it is padding."""
        joined = torch.zeros_like(self.source, dtype=torch.bool).flatten()
        joined[self.place[flags & self.predicts]] = True
        return joined.view_as(self.source)

    def visible(self) -> Tensor:
        """Which position sees which, (rows, 1, length, length): its own side's and the common ones up to itself."""
        seen = (self.side[:, None, :] == 0) | (self.side[:, None, :] == self.side[:, :, None])
        return seen.tril()[:, None]

    def part(self, values: Tensor) -> Tensor:
        """(rows, length) as (sides, longest - 1), with anything where a side has ended or not begun."""
        places = self.place[:, :-1]
        # In the backward pass, indexing would add up what is shared in any order.
        return values.flatten().gather(0, places.flatten()).view_as(places)


def _divided(groups: Tensor, sides: int) -> Tensor:
    """Groups of at most so many sides each, in the place of larger ones."""
    rank = (groups[:, None] == groups).tril(-1).sum(1)
    return torch.unique(groups * len(groups) + rank // sides, return_inverse=True)[1]


def sharing(model: Any, *, left_padded: bool = False) -> SharedPrefix | None:
    """``model`` with shared prefixes, None where its architecture would give other numbers then, which is tried.

    Attention must take a mask of its own, which not all kinds do, and see all that came before: neither windows, whose
    width a short trial does not show, nor states.
    """
    config = model.config.get_text_config()
    kind = config._attn_implementation
    layers = {*(getattr(config, "layer_types", None) or ())} - {"full_attention"}
    window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    if kind not in ("sdpa", "eager") or layers or window or getattr(config, "attention_dropout", 0):
        return None
    shared = SharedPrefix(model, eager=kind == "eager", width=_PER_WIDTH * getattr(config, "hidden_size", math.inf))
    training = model.training
    model.eval()
    try:
        expected = _trial(model, model.device, left_padded)
        difference = _trial(dataclasses.replace(shared, saving=-math.inf), model.device, left_padded) - expected
    except (NotImplementedError, TypeError, RuntimeError, ValueError):
        return None
    finally:
        model.train(training)
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    return shared if (difference.abs() <= tolerance * (1 + expected.abs())).all() else None


@torch.no_grad()
def _trial(model: Any, device: torch.device, left_padded: bool) -> Tensor:
    ids = torch.tensor([[2, 3, 4, 5, 6, 7], [3, 3, 2, 4, 0, 0], [2, 3, 4, 6, 2, 0], [3, 3, 5, 6, 7, 2]], device=device)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 5 + [0], [1] * 6], device=device)
    # Some architectures count positions from the first token, others from the first column.
    ids, mask = (F.pad(values, (int(left_padded), 0)) for values in (ids, mask))
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, : 1 + left_padded] = -100
    return model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True, use_cache=False).log_probs


def drops_out(model: nn.Module) -> bool:
    """Whether some of a model's units drop out while it trains: then each trace draws its own."""
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
