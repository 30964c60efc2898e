"""Every prompt is in exactly one batch, and batches keep to their bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rlsf.sampling.batching import BatchLimits, batches, windows

LIMITS = st.builds(
    BatchLimits,
    rows_per_prompt=st.integers(1, 12),
    new_tokens=st.integers(1, 50),
    rows=st.integers(1, 100),
    cached_tokens=st.integers(1, 3000),
    prefill_tokens=st.integers(1, 300),
    mixed_lengths=st.booleans(),
    shared_prompts=st.booleans(),
)


@given(st.lists(st.integers(1, 60), max_size=60), LIMITS)
@settings(deadline=None)
def test_batches_partition_the_prompts_within_the_bounds(lengths: list[int], limits: BatchLimits) -> None:
    planned = [batch for window in windows(lengths, limits) for batch in batches(window, lengths, limits)]
    assert sorted(position for batch in planned for position in batch) == list(range(len(lengths)))
    for batch in planned:
        longest = max(lengths[position] for position in batch)
        own = limits.rows_per_prompt * limits.new_tokens
        cached = len(batch) * (own + longest * (1 if limits.shared_prompts else limits.rows_per_prompt))
        assert len(batch) == 1 or (
            cached <= limits.cached_tokens
            and len(batch) * longest <= limits.prefill_tokens
            and len(batch) * limits.rows_per_prompt <= limits.rows
        )
        assert limits.mixed_lengths or len({lengths[position] for position in batch}) == 1


@given(st.lists(st.integers(1, 60), max_size=60), LIMITS)
@settings(deadline=None)
def test_windows_are_consecutive_and_bounded(lengths: list[int], limits: BatchLimits) -> None:
    planned = list(windows(lengths, limits))
    assert [position for window in planned for position in window] == list(range(len(lengths)))
    for window in planned:
        costs = [limits.prompt_cost(lengths[position]) for position in window]
        assert sum(costs[:-1]) < 8 * limits.cached_tokens


def test_similar_lengths_go_together_longest_first() -> None:
    limits = BatchLimits(1, 10, 99, 60, 1000, mixed_lengths=True, shared_prompts=True)
    assert batches(range(5), [5, 20, 6, 20, 7], limits) == [[1, 3], [4, 2, 0]]


def test_rows_of_one_prompt_split_where_they_exceed_the_bound() -> None:
    limits = BatchLimits(10, 20, 99, 100, 1000, mixed_lengths=True, shared_prompts=False)
    assert limits.rows_at_once(longest=30) == 2
    assert BatchLimits(10, 20, 3, 1000, 1000, mixed_lengths=True, shared_prompts=False).rows_at_once(longest=30) == 3
    assert BatchLimits(10, 20, 99, 10, 1000, mixed_lengths=True, shared_prompts=True).rows_at_once(longest=30) == 1


def test_batches_are_of_equal_size_where_that_takes_no_more_of_them() -> None:
    limits = BatchLimits(1, 10, 99, 15 * 5, 1000, mixed_lengths=True, shared_prompts=True)
    assert [len(batch) for batch in batches(range(6), [5] * 6, limits)] == [3, 3]
    assert [len(batch) for batch in batches(range(6), [30, 5, 5, 5, 5, 5], limits)] == [1, 5]
