"""Which tokens are to be scored, and which of them are read together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlsf.errors import InputError
from rlsf.sampling.batching import BATCHES_IN_A_WINDOW, BatchLimits, batches
from rlsf.traces import Trace

Positions = Literal["completion", "answer"]
#: A prompt is shared where that spares at least one token in so many: one read over cached states costs more.
_WORTH = 8


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A sequence in two parts, its tokens to score all in the second: ``keep`` [C] over ``completion`` [C].

    The completion ends with a token to score: what follows need not be read. ``name`` is for errors.
    """

    name: str
    prompt: NDArray[np.integer]
    completion: NDArray[np.integer]
    keep: NDArray[np.bool_]

    @property
    def length(self) -> int:
        """Tokens of both parts."""
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What ids and lengths a model can take."""

    vocabulary_size: int
    context_length: int | None

    def check(self, name: str, prompt: NDArray[np.integer], completion: NDArray[np.integer]) -> None:
        """Raise ``InputError`` for a sequence that cannot be scored."""
        length = len(prompt) + len(completion)
        if not len(prompt):
            raise InputError(f"{name} has no prompt: nothing produced its first token")
        if not len(completion):
            raise InputError(f"{name} has no tokens to score")
        if self.context_length is not None and length > self.context_length:
            raise InputError(
                f"{name} has {length} tokens with its prompt and the model's context {self.context_length}: leave it"
                " out or score it with a model with a longer context"
            )
        for part, ids in (("prompt", prompt), ("completion", completion)):
            strange = ids[(ids < 0) | (ids >= self.vocabulary_size)]
            if len(strange):
                raise InputError(
                    f"the {part} of {name} holds token id {strange[0]}, outside the model's vocabulary of"
                    f" {self.vocabulary_size}: score it with the model whose tokenizer made it"
                )


def reading_of(trace: Trace, positions: Positions) -> Reading | None:
    """What is to be scored of a trace; None where it has no answer."""
    start, end = 0, len(trace.token_ids)
    if positions == "answer":
        if trace.answer is None:
            return None
        start, end = trace.answer.start, trace.answer.end
    return Reading(trace_name(trace), trace.prompt_token_ids, trace.token_ids[:end], np.arange(end) >= start)


def trace_name(trace: Trace) -> str:
    """How a trace is named in errors."""
    return f"trace {trace.trace_id!r}"


def trace_windows(traces: Iterable[Trace], bounds: Bounds, batch_tokens: int) -> Iterator[list[Trace]]:
    """Consecutive runs of traces of about eight batches, each checked before it is held."""
    window: list[Trace] = []
    used = 0
    for trace in traces:
        bounds.check(trace_name(trace), trace.prompt_token_ids, trace.token_ids)
        window.append(trace)
        used += len(trace.prompt_token_ids) + len(trace.token_ids)
        if used >= BATCHES_IN_A_WINDOW * batch_tokens:
            yield window
            window, used = [], 0
    if window:
        yield window


@dataclass(frozen=True, slots=True)
class Plan:
    """Batches of numbers of readings: those read whole, and groups of each that share a prompt."""

    whole: list[list[int]]
    shared: list[list[list[int]]]


def plan(
    readings: Sequence[Reading], batch_tokens: int, *, share: bool, mixed_lengths: bool, turning_length: int | None
) -> Plan:
    """What to read together, in at most ``batch_tokens`` tokens a pass.

    ``share``: whether the states of prompts can be; ``mixed_lengths``: of prompts of several lengths in one batch. Up
    to ``turning_length`` tokens a model turns its positions otherwise than beyond: sequences of both kinds must not
    meet, and a longer one is read whole.
    """
    long = [turning_length is not None and reading.length - 1 > turning_length for reading in readings]
    groups: dict[bytes, list[int]] = defaultdict(list)
    for number, reading in enumerate(readings):
        if share and not long[number]:
            groups[reading.prompt.tobytes()].append(number)
    shared = [group for group in groups.values() if _is_worth_sharing([readings[number] for number in group])]
    others = set(range(len(readings))) - {number for group in shared for number in group}
    whole: list[list[int]] = []
    for kind in (True, False):
        numbers = [number for number in sorted(others) if long[number] == kind]
        lengths = [readings[number].length for number in numbers]
        whole += [[numbers[place] for place in batch] for batch in similar_lengths(lengths, batch_tokens)]
    prompts = [len(readings[group[0]].prompt) for group in shared]
    together = similar_lengths(prompts, batch_tokens, mixed=mixed_lengths)
    return Plan(whole, [[shared[place] for place in batch] for batch in together])


def _is_worth_sharing(group: Sequence[Reading]) -> bool:
    spared = (len(group) - 1) * len(group[0].prompt)
    return spared * _WORTH >= sum(reading.length for reading in group)


def similar_lengths(lengths: Sequence[int], batch_tokens: int, *, mixed: bool = True) -> list[list[int]]:
    """Numbers of sequences in batches of similar length and at most so many tokens, padding included."""
    limits = BatchLimits(
        rows_per_prompt=1,
        new_tokens=0,
        rows=len(lengths),
        cached_tokens=batch_tokens,
        prefill_tokens=batch_tokens,
        mixed_lengths=mixed,
        shared_prompts=True,
    )
    return batches(range(len(lengths)), lengths, limits)
