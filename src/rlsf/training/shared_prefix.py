"""Both traces of a pair in one row, so that the tokens they begin with, above all the prompt, are read once."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: Of the positions of two rows a pair, one row must save this share: the attention over it is denser.
_SAVING = 0.2
#: A longer row is not made: what it may look at takes the square of its length.
_LONGEST = 2048
_PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """A causal model with TRL's fused head that reads [chosen; rejected] as one row a pair; called as the model itself.

    A row is the tokens that both sides begin with, what follows in the chosen one, and what follows in the rejected one
    at the positions it has there; neither sees the other, and the last common token, from which both go on, stands
    before each. The last token of a side predicts nothing and is left out. Outputs are those of the two rows up to
    rounding, and so are gradients, since those of the common tokens add up. Batches for which that would hardly save
    anything go to the model as they are.
    """

    model: Any
    eager: bool = False
    """The model's attention adds the mask, in place of applying it."""
    saving: float = _SAVING

    def __call__(self, *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **options: Any) -> Any:
        """As the model with ``fused_lm_head``: ids, mask (padded on the right) and labels, (2 pairs, longest)."""
        rows = _Rows.of(input_ids, attention_mask)
        if rows.length > min(_LONGEST, (1 - self.saving) * 2 * input_ids.size(1)):
            return self.model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **options)
        following = input_ids.roll(-1, 1)
        outputs = self.model(
            input_ids=rows.join(input_ids),
            attention_mask=self._mask(rows.visible()),
            position_ids=rows.position,
            labels=None,
            shift_labels=rows.join(following).masked_fill(~rows.joined_any(labels.roll(-1, 1) != -100), -100),
            **options,
        )
        scored = labels[:, 1:] != -100
        fields = {name: getattr(outputs, name) for name in _PER_TOKEN}
        parted = {name: rows.part(each) * scored for name, each in fields.items() if each is not None}
        return dataclasses.replace(outputs, **parted, label_mask=scored)

    def _mask(self, visible: Tensor) -> Tensor:
        if not self.eager:
            return visible
        dtype = next(self.model.parameters()).dtype
        return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


@dataclass(frozen=True, slots=True)
class _Rows:
    """How positions of two rows a pair and of one row correspond: with s tokens of the prefix read once, the one row is
    the chosen side but for its last token, then the rejected one from its position s on, but for its last token."""

    shared: Tensor
    """s of each pair, (pairs, 1): one less than the sides have in common, or 0."""
    chosen: Tensor
    rejected: Tensor
    """Positions of each side that predict something, (pairs, 1)."""
    position: Tensor
    """The position within its side, (pairs, length)."""
    longest: int
    """Of the two rows, with padding."""

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor) -> _Rows:
        lengths = mask.sum(1, keepdim=True) - 1
        chosen, rejected = lengths.chunk(2)
        same = (ids.chunk(2)[0] == ids.chunk(2)[1]) & mask.chunk(2)[0].bool() & mask.chunk(2)[1].bool()
        shared = (same.long().cumprod(1).sum(1, keepdim=True) - 1).clamp(min=0)
        columns = torch.arange(int((chosen + rejected - shared).max()), device=ids.device).expand(len(shared), -1)
        position = torch.where(columns < chosen, columns, columns - chosen + shared)
        return cls(shared, chosen, rejected, position.clamp(max=ids.size(1) - 1), ids.size(1))

    @property
    def length(self) -> int:
        return self.position.size(1)

    @property
    def _columns(self) -> Tensor:
        return torch.arange(self.length, device=self.position.device)

    def join(self, values: Tensor) -> Tensor:
        """(2 pairs, longest) as (pairs, length): what both sides share is taken from the chosen one."""
        chosen, rejected = (side.gather(1, self.position) for side in values.chunk(2))
        return torch.where(self._columns < self.chosen, chosen, rejected)

    def joined_any(self, flags: Tensor) -> Tensor:
        """Where a position is one that is flagged in a side that it belongs to; never where it is padding."""
        chosen, rejected = (side.gather(1, self.position) for side in flags.chunk(2))
        own = torch.where(self._columns < self.chosen, chosen, rejected) | (rejected & (self._columns < self.shared))
        return own & (self._columns < self.chosen + self.rejected - self.shared)

    def visible(self) -> Tensor:
        """Which position sees which, (pairs, 1, length, length): its own side's and the common ones up to itself."""
        side = (self._columns >= self.shared).int() + (self._columns >= self.chosen)
        seen = (side[:, None, :] == 0) | (side[:, None, :] == side[:, :, None])
        return (seen & (self._columns <= self._columns[:, None]))[:, None]

    def part(self, values: Tensor) -> Tensor:
        """(pairs, length) as (2 pairs, longest - 1), with anything where a side has ended."""
        columns = torch.arange(self.longest - 1, device=values.device).expand(len(values), -1)
        rejected = torch.where(columns < self.shared, columns, columns + self.chosen - self.shared)
        places = torch.cat([columns, rejected]).clamp(max=self.length - 1)
        return torch.cat([values, values]).gather(1, places)


def sharing(model: Any) -> SharedPrefix | None:
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
    shared = SharedPrefix(model, eager=kind == "eager")
    training = model.training
    model.eval()
    try:
        expected = _trial(model, model.device)
        difference = _trial(dataclasses.replace(shared, saving=-math.inf), model.device) - expected
    except (NotImplementedError, TypeError, RuntimeError, ValueError):
        return None
    finally:
        model.train(training)
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    return shared if (difference.abs() <= tolerance * (1 + expected.abs())).all() else None


@torch.no_grad()
def _trial(model: Any, device: torch.device) -> Tensor:
    ids = torch.tensor([[2, 3, 4, 5, 6, 7], [3, 3, 2, 4, 0, 0], [2, 3, 4, 6, 2, 0], [3, 3, 5, 6, 7, 2]], device=device)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 5 + [0], [1] * 6], device=device)
    labels = ids.masked_fill(mask == 0, -100)
    return model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True, use_cache=False).log_probs


def drops_out(model: nn.Module) -> bool:
    """Whether some of a model's units drop out while it trains: then the sides of a pair draw their own."""
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
