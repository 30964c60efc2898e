"""The forward passes of a plan, and their results in the order of the readings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from rlsf.errors import ModelError, ResourceError
from rlsf.sampling.forward import CausalModel
from rlsf.scoring.measures import Columns, each, joined
from rlsf.scoring.plan import Plan, Reading, similar_lengths
from rlsf.scoring.readers import FusedReader, LogitsReader, NotFinite
from rlsf.tokenstats.parts import StatisticColumns


def no_columns(device: torch.device) -> StatisticColumns:
    """Statistics of no tokens."""
    empty = torch.empty(0, device=device)
    return StatisticColumns(*[empty] * len(StatisticColumns._fields))._replace(top1_id=empty.long())


def read_all(
    readings: Sequence[Reading],
    plan: Plan,
    reader: FusedReader[Columns] | LogitsReader[Columns],
    causal: CausalModel,
    batch_tokens: int,
) -> Columns:
    """What is measured of the tokens to score of every reading, one reading after the other.

    Raises ``ModelError`` naming the reading whose distributions are not finite, ``ResourceError`` out of memory.
    """
    order: list[int] = []
    parts: list[Columns] = []
    try:
        for numbers, columns in _passes(readings, plan, reader, causal, batch_tokens):
            order += numbers
            parts.append(columns)
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"out of memory while scoring: lower batch_tokens={batch_tokens}") from error
    together = joined(parts)
    places = _places_in_order(order, [int(reading.keep.sum()) for reading in readings]).to(together[0].device)
    return each(together, lambda column: column[places])


def _places_in_order(order: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Where each element stands, reading by reading, after readings of these sizes were computed in this order."""
    starts = np.zeros(len(sizes), dtype=np.int64)
    starts[order] = np.cumsum([0, *(sizes[number] for number in order)])[:-1]
    return torch.from_numpy(
        np.concatenate([np.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)])
    )


def _passes(
    readings: Sequence[Reading],
    plan: Plan,
    reader: FusedReader[Columns] | LogitsReader[Columns],
    causal: CausalModel,
    batch_tokens: int,
) -> Iterator[tuple[list[int], Columns]]:
    for batch in plan.whole:
        members = [readings[number] for number in batch]
        with _naming(members), causal.inference():
            columns = reader.columns(*_padded(members, causal.device, with_prompts=True))
        yield batch, columns
    for groups in plan.shared:
        assert isinstance(reader, FusedReader)
        first = [readings[group[0]] for group in groups]
        with _naming(first), causal.inference():
            prompts = reader.share([reading.prompt.tolist() for reading in first])
        longest = max(len(reading.prompt) for reading in first)
        rows = [(number, place) for place, group in enumerate(groups) for number in group]
        lengths = [longest + len(readings[number].completion) for number, _ in rows]
        for batch in similar_lengths(lengths, batch_tokens):
            numbers, places = [rows[row][0] for row in batch], [rows[row][1] for row in batch]
            members = [readings[number] for number in numbers]
            with _naming(members), causal.inference():
                which = torch.tensor(places, device=causal.device)
                columns = prompts.columns(which, *_padded(members, causal.device, with_prompts=False))
            yield numbers, columns


def _padded(members: Sequence[Reading], device: torch.device, *, with_prompts: bool) -> tuple[Tensor, Tensor]:
    """Ids and ``keep`` [n, T], padded on the right; any id does for padding, which no token before it sees."""
    longest = max(member.length if with_prompts else len(member.completion) for member in members)
    ids, keep = np.zeros((len(members), longest), dtype=np.int64), np.zeros((len(members), longest), dtype=bool)
    for row, member in enumerate(members):
        start = len(member.prompt) if with_prompts else 0
        end = start + len(member.completion)
        ids[row, :start] = member.prompt[:start]
        ids[row, start:end], keep[row, start:end] = member.completion, member.keep
    return torch.from_numpy(ids).to(device), torch.from_numpy(keep).to(device)


@contextmanager
def _naming(members: Sequence[Reading]) -> Iterator[None]:
    try:
        yield
    except NotFinite as error:
        raise ModelError(
            f"the model's distributions for {members[error.row].name} are not finite: check the weights, or load them"
            " in float32 or bfloat16 instead of float16"
        ) from None
