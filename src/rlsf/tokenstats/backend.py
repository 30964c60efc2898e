"""Which code computes token statistics from hidden states here, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.parts import VocabularyParts
from rlsf.tokenstats.tiles import parts_by_tiles


class PartsFunction(Protocol):
    """What a backend computes: the parts of the vocabulary for a block of rows, see ``parts_by_tiles``."""

    def __call__(
        self, hidden: Tensor, head: OutputHead, ids: Tensor, temperature: float, *, total: bool, above: Tensor | None
    ) -> VocabularyParts: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to compute, the most rows that it takes at once, and why it was chosen."""

    name: str
    rows: int
    reason: str
    parts: PartsFunction


TILES = Backend("tiles", 512, "PyTorch operations on tiles", parts_by_tiles)


def choose_backend(hidden: Tensor, head: OutputHead) -> Backend:
    """The fastest backend for these tensors."""
    return TILES
