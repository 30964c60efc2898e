"""What is measured of the distribution that produced a token: its statistics, or probabilities of sets of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from rlsf.tokenstats.from_hidden import mass_of_tokens, statistics_of_hidden
from rlsf.tokenstats.from_logits import mass_of_logits, statistics_of_logits
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.parts import StatisticColumns

#: A named tuple of tensors with a row for each token.
Columns = TypeVar("Columns", bound="tuple[Tensor, ...]")
_Columns_co = TypeVar("_Columns_co", bound="tuple[Tensor, ...]", covariant=True)


class Measure(Protocol[_Columns_co]):
    """Measures distributions given as hidden states [N, d] or as logits [N, V], each with its token [N]."""

    def of_hidden(self, hidden: Tensor, head: OutputHead, ids: Tensor) -> _Columns_co: ...
    def of_logits(self, logits: Tensor, ids: Tensor) -> _Columns_co: ...


@dataclass(frozen=True, slots=True)
class Statistics:
    """The seven statistics, of softmax(logits / temperature)."""

    temperature: float = 1.0

    def of_hidden(self, hidden: Tensor, head: OutputHead, ids: Tensor) -> StatisticColumns:
        """As ``statistics_of_hidden``."""
        return statistics_of_hidden(hidden, head, ids, temperature=self.temperature)

    def of_logits(self, logits: Tensor, ids: Tensor) -> StatisticColumns:
        """As ``statistics_of_logits``."""
        return statistics_of_logits(logits, ids, temperature=self.temperature)


class SetMasses(NamedTuple):
    """Probabilities of S sets of tokens in N distributions, [N, S] in float32."""

    masses: Tensor


@dataclass(frozen=True, slots=True)
class TokenSets:
    """The probability of each of some sets of tokens, whichever token came: see ``rlsf.tokenstats.token_sets``."""

    token_sets: tuple[tuple[int, ...], ...]

    def of_hidden(self, hidden: Tensor, head: OutputHead, ids: Tensor) -> SetMasses:
        """As ``mass_of_tokens``."""
        columns = statistics_of_hidden(hidden, head, ids)
        return SetMasses(mass_of_tokens(hidden, head, columns, self.token_sets))

    def of_logits(self, logits: Tensor, ids: Tensor) -> SetMasses:
        """As ``mass_of_logits``."""
        columns = statistics_of_logits(logits, ids)
        return SetMasses(mass_of_logits(logits, columns, self.token_sets))


def joined(parts: Sequence[Columns]) -> Columns:
    """The rows of all parts, one part after the other."""
    kind: Any = type(parts[0])
    return kind._make(torch.cat(columns) for columns in zip(*parts, strict=True))


def each(columns: Columns, change: Callable[[Tensor], Tensor]) -> Columns:
    """The same columns, each changed."""
    kind: Any = type(columns)
    return kind._make(map(change, columns))
