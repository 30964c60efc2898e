"""Whether a model can be scored without its logits, and its prompts be shared: tried on the model itself, once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlsf.errors import ModelError
from rlsf.sampling.forward import CausalModel
from rlsf.scoring.measures import Statistics
from rlsf.scoring.output_head import PostProcessing, UnknownHead, find_post_processing, last_layer
from rlsf.scoring.passes import read_all
from rlsf.scoring.plan import Plan, Reading
from rlsf.scoring.readers import FusedReader, LogitsReader
from rlsf.tokenstats.parts import StatisticColumns

_log = logging.getLogger(__name__)

#: Largest difference between the two ways, in nats per 1 + largest logit. The fused way rounds nothing; a model's own
#: logits are rounded up to three times (product, scale, cap), and a logprob is a difference of two of them.
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 2.0**-8, torch.bfloat16: 2.0**-6}
#: What an architecture that does not fit may raise. A mistake of ours would raise them too: hence the warning.
_MISFITS = (UnknownHead, RuntimeError, TypeError, ValueError, LookupError, AttributeError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a model is scored. ``post_processing`` is None where it goes by its logits.

    ``reason`` says why, or how well the two ways agreed; ``vocabulary_size`` is the number of its logits.
    """

    way: Literal["fused", "logits"]
    reason: str
    vocabulary_size: int
    post_processing: PostProcessing | None
    shares_prompts: bool


_verdicts: WeakKeyDictionary[PreTrainedModel, dict[object, Verdict]] = WeakKeyDictionary()


def verdict_on(causal: CausalModel) -> Verdict:
    """The verdict on a model as it is now: an adapter switched on or off may put another last layer in its place.

    Raises ``ModelError`` for a model whose logits are not numbers, or that sees the tokens it is to predict.
    """
    known = _verdicts.setdefault(causal.model, {})
    rounding = _autocast_dtypes(causal.device)
    try:
        layer: nn.Linear | UnknownHead = last_layer(causal.model)
        key: object = (id(layer), layer.weight.dtype, layer.weight.device, rounding)
    except UnknownHead as reason:
        layer, key = reason, str(reason)
    if key not in known:
        with causal.inference():
            known[key] = _Check(causal, layer).verdict()
        if known[key].way == "logits":
            _log.warning("%s is scored by its logits: %s", causal.name, known[key].reason)
    return known[key]


class _Check:
    """Two rows that begin with the same tokens, the second shorter; all their tokens are scored but the first."""

    def __init__(self, causal: CausalModel, layer: nn.Linear | UnknownHead) -> None:
        self._causal, self._layer = causal, layer
        self._rounding = _autocast_dtypes(causal.device)
        tokens = (torch.arange(1, 9, device=causal.device) * 37) % causal.vocabulary_size
        self._ids = torch.stack([tokens[:6], torch.cat([tokens[:3], tokens[6:8], tokens[:1]])])
        self._keep = torch.ones_like(self._ids, dtype=torch.bool)
        self._keep[:, 0] = False
        self._keep[1, 5:] = False

    def verdict(self) -> Verdict:
        logits = self._causal.read(self._ids)
        self._largest = float(logits[logits.isfinite()].abs().max()) if logits.isfinite().any() else 0.0
        self._require_causality(logits)
        try:
            way, reason, found, shares = self._try_fused(logits)
        except torch.OutOfMemoryError:
            raise
        except _MISFITS as error:
            way, reason, found, shares = "logits", str(error) or type(error).__name__, None, False
        return Verdict(way, reason, logits.shape[-1], found, shares)

    def _require_causality(self, logits: Tensor) -> None:
        name = self._causal.name
        if logits.isnan().any():
            raise ModelError(f"the logits of {name} are not finite: check the weights")
        one, other = (row.nan_to_num(posinf=0.0, neginf=0.0) for row in logits[:, :3].float())
        if float((one - other).abs().max()) > 10 * self._tolerance(logits.dtype):
            raise ModelError(
                f"the logits of {name} depend on later tokens: it is no causal language model, and its confidence in"
                " tokens that it has already seen means nothing"
            )

    def _try_fused(self, logits: Tensor) -> tuple[Literal["fused", "logits"], str, PostProcessing | None, bool]:
        layer = self._layer
        if isinstance(layer, UnknownHead):
            raise layer
        found = find_post_processing(layer, self._causal.read)
        reader = FusedReader(self._causal, layer, found, Statistics())
        fused = reader.columns(self._ids, self._keep)
        difference = _largest_difference(fused, LogitsReader(self._causal, Statistics()).columns(self._ids, self._keep))
        if not difference <= self._tolerance(logits.dtype, layer.weight.dtype):
            return "logits", f"statistics without logits differ by {difference:.2g} nats from those with", None, False
        agreement = f"statistics with and without logits agree to {difference:.2g} nats"
        return "fused", agreement, found, self._can_share(reader)

    def _tolerance(self, *dtypes: torch.dtype) -> float:
        return max(TOLERANCES.get(dtype, 1e-4) for dtype in (*dtypes, *self._rounding)) * (1 + self._largest)

    def _can_share(self, reader: FusedReader[StatisticColumns]) -> bool:
        """Whether completions over the cached states of prompts have the statistics of the whole rows."""
        if not self._causal.has_plain_cache:
            return False
        lengths = (2, 1) if self._causal.mixed_lengths else (2, 2)
        ids = self._ids.cpu().numpy()
        readings = [
            Reading(
                f"row {row}", ids[row, : lengths[row]], ids[row, lengths[row] : end], np.ones(end - lengths[row], bool)
            )
            for row, end in ((0, 6), (1, 5), (0, 4))
        ]
        try:
            shared = read_all(readings, Plan([], [[[0, 2], [1]]]), reader, self._causal, batch_tokens=64)
        except torch.OutOfMemoryError:
            raise
        except _MISFITS as error:
            _log.info("%s cannot share prompts: %s", self._causal.name, error)
            return False
        alone = read_all(readings, Plan([[0, 1, 2]], []), reader, self._causal, batch_tokens=64)
        return _largest_difference(shared, alone) <= 10 * self._tolerance(self._causal.model.dtype)


def _autocast_dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """What products are rounded to where a caller switched autocast on, whatever the dtype of weights and logits."""
    return (torch.get_autocast_dtype(device.type),) if torch.is_autocast_enabled(device.type) else ()


def _largest_difference(one: StatisticColumns, other: StatisticColumns) -> float:
    """In nats, over all statistics but the id of the most likely token, which a tie may decide."""
    pairs = ((getattr(one, name), getattr(other, name)) for name in StatisticColumns._fields if name != "top1_id")
    # Masked tokens make both means -inf, whose difference is no number.
    return max(float(torch.where(a == b, 0.0, (a - b).abs()).max()) for a, b in pairs)
