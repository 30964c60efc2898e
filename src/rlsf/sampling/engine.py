"""The protocol behind which every sampling engine stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rlsf.sampling.config import SamplingConfig
from rlsf.traces import Strategy, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """One rendered prompt. ``seed`` alone decides the random numbers of its traces."""

    prompt_id: str
    token_ids: tuple[int, ...]
    seed: int = 0


class Engine(Protocol):
    """Samples traces and records the statistics of the distributions that produced their tokens."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that the model's token ids belong to."""
        ...

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


def trace_strategy(config: SamplingConfig) -> Strategy:
    """What traces sampled so are called: CoT-decoding with one branch, continued greedily, is greedy decoding."""
    if config.strategy == "cot_decoding" and config.continuation == "greedy" and config.branches == 1:
        return "greedy"
    return config.strategy
