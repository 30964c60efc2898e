"""A trace survives the way through Parquet unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers.answer import Answer
from rlsf.tokenstats.statistics import STATISTIC_NAMES, TokenStatistics
from rlsf.traces import TRACE_SCHEMA, Trace, table_to_traces, traces_to_table


def make_trace(length: int, seed: int, answer: Answer | None, failure: str | None) -> Trace:
    random = np.random.default_rng(seed)
    columns = {
        name: random.integers(0, 9, length, dtype=np.int32)
        if name == "top1_id"
        else random.normal(size=length).astype(np.float32)
        for name in STATISTIC_NAMES
    }
    return Trace(
        prompt_id=f"p{seed}",
        index=seed % 10,
        strategy="cot_decoding",
        prompt_token_ids=np.arange(seed % 5 + 1, dtype=np.int32),
        token_ids=random.integers(0, 9, length, dtype=np.int32),
        text="é ½ <script>",
        finish_reason="eos" if length else "length",
        statistics=TokenStatistics(**columns, vocabulary_size=9),
        answer=answer,
        failure=failure,
    )


def assert_equal(first: Trace, second: Trace) -> None:
    for name in ("prompt_id", "index", "strategy", "text", "finish_reason", "answer", "failure"):
        assert getattr(first, name) == getattr(second, name)
    for name in ("prompt_token_ids", "token_ids"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert getattr(second, name).dtype == np.int32
    for name in STATISTIC_NAMES:
        np.testing.assert_array_equal(getattr(first.statistics, name), getattr(second.statistics, name))
    assert first.statistics.vocabulary_size == second.statistics.vocabulary_size


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 99), st.booleans()), max_size=6), st.integers(0, 3))
def test_round_trip_also_of_slices(rows: list[tuple[int, int, bool]], skip: int) -> None:
    traces = [
        make_trace(length, seed, Answer("12", length - 1, length), None)
        if found and length
        else make_trace(length, seed, None, "no number in the trace")
        for length, seed, found in rows
    ]
    table = traces_to_table(traces)
    assert table.schema.equals(TRACE_SCHEMA)
    for original, read in zip(traces[skip:], table_to_traces(table.slice(skip)), strict=True):
        assert_equal(original, read)


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    traces = [make_trace(5, 3, Answer("7", 2, 4), None), make_trace(0, 4, None, "empty")]
    pq.write_table(traces_to_table(traces), tmp_path / "traces.parquet")
    for original, read in zip(traces, table_to_traces(pq.read_table(tmp_path / "traces.parquet")), strict=True):
        assert_equal(original, read)


def test_impossible_traces_are_refused() -> None:
    with pytest.raises(ValueError, match=r"trace p1#1: 3 tokens but 5 statistics"):
        whole = make_trace(5, 1, None, None)
        Trace(**{**{f: getattr(whole, f) for f in Trace.__slots__}, "token_ids": whole.token_ids[:3]})
    with pytest.raises(ValueError, match="answer span ends at 9 of 5 tokens"):
        make_trace(5, 1, Answer("7", 8, 9), None)
    with pytest.raises(ValueError, match="empty or negative"):
        Answer("7", 4, 4)
