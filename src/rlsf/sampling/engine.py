"""The protocol behind which every sampling engine stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rlsf.sampling.config import SamplingConfig
from rlsf.traces import Trace


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """One rendered prompt. ``seed`` alone decides the random numbers of its traces."""

    prompt_id: str
    token_ids: tuple[int, ...]
    seed: int = 0


class Engine(Protocol):
    """Samples traces and records the statistics of the distributions that produced their tokens."""

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and completion together, None where unbounded."""
        ...

    def sample(self, requests: Sequence[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        """The traces of each request, in the order of the requests.

        Raises ``InputError`` for a prompt that leaves no room in the context or K larger than the vocabulary,
        ``ModelError`` for non-finite logits.
        """
        ...
