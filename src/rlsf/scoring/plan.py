"""Which tokens of which traces are read together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rlsf.errors import InputError
from rlsf.sampling.batching import BATCHES_IN_A_WINDOW, BatchLimits, batches
from rlsf.traces import Trace

Positions = Literal["completion", "answer"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A trace whose tokens from ``start`` to ``end`` are to be scored; what follows need not be read."""

    trace: Trace
    start: int
    end: int

    @property
    def prompt(self) -> list[int]:
        """The prompt's token ids."""
        return self.trace.prompt_token_ids.tolist()

    @property
    def completion(self) -> list[int]:
        """The completion's token ids as far as they are read."""
        return self.trace.token_ids[: self.end].tolist()

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.trace.prompt_token_ids) + self.end


@dataclass(frozen=True, slots=True)
class Bounds:
    """What ids and lengths a model can take."""

    vocabulary_size: int
    context_length: int | None

    def check(self, trace: Trace) -> None:
        """Raise ``InputError`` for a trace that cannot be scored."""
        prompt, completion = trace.prompt_token_ids, trace.token_ids
        if not len(prompt):
            raise InputError(f"trace {trace.trace_id!r} has no prompt: nothing produced its first token")
        if not len(completion):
            raise InputError(f"trace {trace.trace_id!r} has no tokens to score")
        length = len(prompt) + len(completion)
        if self.context_length is not None and length > self.context_length:
            raise InputError(
                f"trace {trace.trace_id!r} has {length} tokens with its prompt and the model's context"
                f" {self.context_length}: leave it out or score it with a model with a longer context"
            )
        for name, ids in (("prompt", prompt), ("completion", completion)):
            strange = ids[(ids < 0) | (ids >= self.vocabulary_size)]
            if len(strange):
                raise InputError(
                    f"the {name} of trace {trace.trace_id!r} holds token id {strange[0]}, outside the model's"
                    f" vocabulary of {self.vocabulary_size}: score it with the model whose tokenizer made it"
                )


def reading_of(trace: Trace, positions: Positions) -> Reading | None:
    """What is to be scored of a trace; None where it has no answer."""
    if positions == "completion":
        return Reading(trace, 0, len(trace.token_ids))
    return None if trace.answer is None else Reading(trace, trace.answer.start, trace.answer.end)


def trace_windows(traces: Iterable[Trace], bounds: Bounds, batch_tokens: int) -> Iterator[list[Trace]]:
    """Consecutive runs of traces of about eight batches, each checked before it is held."""
    window: list[Trace] = []
    used = 0
    for trace in traces:
        bounds.check(trace)
        window.append(trace)
        used += len(trace.prompt_token_ids) + len(trace.token_ids)
        if used >= BATCHES_IN_A_WINDOW * batch_tokens:
            yield window
            window, used = [], 0
    if window:
        yield window


def alone_and_groups(readings: Sequence[Reading], *, share: bool) -> tuple[list[int], list[list[int]]]:
    """Numbers of the readings to be read whole, and runs of consecutive ones with the same prompt tokens."""
    if not share:
        return list(range(len(readings))), []
    numbers = range(len(readings))
    runs = itertools.groupby(numbers, lambda number: readings[number].trace.prompt_token_ids.tobytes())
    groups = [list(run) for _, run in runs]
    return [group[0] for group in groups if len(group) == 1], [group for group in groups if len(group) > 1]


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
