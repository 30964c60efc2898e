"""A trace: one sampled completion with its token ids, statistics and answer; and its Parquet form.

One row per (prompt, trace). Text never replaces ids: what is trained on later are the ids sampled here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from rlsf.answers.answer import Answer
from rlsf.tokenstats.statistics import STATISTIC_NAMES, TokenStatistics

Strategy = Literal["greedy", "cot_decoding", "sampling"]
#: eos: an end-of-sequence id was produced. stop: a stop string was. length: cut at the token budget (truncated).
FinishReason = Literal["eos", "stop", "length"]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One completion of one prompt.

    ``token_ids`` includes the end-of-sequence id when the model produced one; ``text`` is their decoding
    without special tokens. ``index`` counts the traces of a prompt from 0: under CoT-decoding it is the rank
    of the first token, so index 0 is the greedy trace. ``failure`` says why there is no usable answer.
    """

    prompt_id: str
    index: int
    strategy: Strategy
    prompt_token_ids: np.ndarray
    token_ids: np.ndarray
    text: str
    finish_reason: FinishReason
    statistics: TokenStatistics
    answer: Answer | None = None
    failure: str | None = None

    def __post_init__(self) -> None:
        if len(self.token_ids) != len(self.statistics):
            raise ValueError(
                f"trace {self.trace_id}: {len(self.token_ids)} tokens but {len(self.statistics)} statistics"
            )
        if self.answer is not None and self.answer.end > len(self.token_ids):
            raise ValueError(
                f"trace {self.trace_id}: answer span ends at {self.answer.end} of {len(self.token_ids)} tokens"
            )

    @property
    def trace_id(self) -> str:
        """``<prompt id>#<index>``, unique within a run and round."""
        return f"{self.prompt_id}#{self.index}"

    @property
    def answer_text(self) -> str | None:
        """The answer as it is written, None where there is none."""
        return self.answer.text if self.answer else None

    @property
    def truncated(self) -> bool:
        """Whether the token budget cut the trace."""
        return self.finish_reason == "length"

    def with_answer(self, answer: Answer | None, failure: str | None = None) -> Trace:
        """The same trace with its answer, or with the reason why there is none."""
        return replace(self, answer=answer, failure=failure)


_INTEGERS = pa.list_(pa.int32())
_FLOATS = pa.list_(pa.float32())
TRACE_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("strategy", pa.string()),
        ("prompt_token_ids", _INTEGERS),
        ("token_ids", _INTEGERS),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        *((name, _INTEGERS if name == "top1_id" else _FLOATS) for name in STATISTIC_NAMES),
        ("vocabulary_size", pa.int32()),
        ("answer", pa.string()),
        ("answer_start", pa.int32()),
        ("answer_end", pa.int32()),
        ("failure", pa.string()),
    ]
)


def _row(trace: Trace) -> dict[str, Any]:
    answer = trace.answer
    return {
        "prompt_id": trace.prompt_id,
        "index": trace.index,
        "strategy": trace.strategy,
        "prompt_token_ids": trace.prompt_token_ids,
        "token_ids": trace.token_ids,
        "text": trace.text,
        "finish_reason": trace.finish_reason,
        **{name: getattr(trace.statistics, name) for name in STATISTIC_NAMES},
        "vocabulary_size": trace.statistics.vocabulary_size,
        "answer": answer.text if answer else None,
        "answer_start": answer.start if answer else None,
        "answer_end": answer.end if answer else None,
        "failure": trace.failure,
    }


def traces_to_table(traces: Iterable[Trace]) -> pa.Table:
    """Traces as a table of ``TRACE_SCHEMA``, row order kept."""
    return pa.Table.from_pylist([_row(trace) for trace in traces], schema=TRACE_SCHEMA)


def _lists(table: pa.Table, name: str) -> list[np.ndarray]:
    column = table.column(name).combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(np.diff(column.offsets.to_numpy()))])
    return [values[start:end] for start, end in itertools.pairwise(offsets)]


def table_to_traces(table: pa.Table) -> list[Trace]:
    """The inverse of ``traces_to_table``; a table without columns of statistics makes traces whose own are missing."""
    scalars: dict[str, Sequence[Any]] = {
        name: table.column(name).to_pylist()
        for name in (
            *("prompt_id", "index", "strategy", "text", "finish_reason", "vocabulary_size"),
            *("answer", "answer_start", "answer_end", "failure"),
        )
    }
    measured = STATISTIC_NAMES[0] in table.column_names
    names = ("prompt_token_ids", "token_ids", *(STATISTIC_NAMES if measured else ()))
    lists = {name: _lists(table, name) for name in names}
    traces = []
    for row in range(table.num_rows):
        size = scalars["vocabulary_size"][row]
        if measured:
            statistics = TokenStatistics(*(lists[name][row] for name in STATISTIC_NAMES), vocabulary_size=size)
        else:
            statistics = TokenStatistics.missing(len(lists["token_ids"][row]), size)
        text = scalars["answer"][row]
        answer = None if text is None else Answer(text, scalars["answer_start"][row], scalars["answer_end"][row])
        traces.append(
            Trace(
                prompt_id=scalars["prompt_id"][row],
                index=scalars["index"][row],
                strategy=scalars["strategy"][row],
                prompt_token_ids=lists["prompt_token_ids"][row],
                token_ids=lists["token_ids"][row],
                text=scalars["text"][row],
                finish_reason=scalars["finish_reason"][row],
                statistics=statistics,
                answer=answer,
                failure=scalars["failure"][row],
            )
        )
    return traces
