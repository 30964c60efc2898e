"""Every reading once, in batches that keep to the bound."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlsf.scoring.passes import _places_in_order
from rlsf.scoring.plan import Reading, plan

LENGTHS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 20)), min_size=1, max_size=25)


def readings_of(pairs: list[tuple[int, int]], prompt_tokens: int) -> list[Reading]:
    """For each (prompt number, completion length) a reading; prompts differ in length by their number."""
    return [
        Reading(str(number), np.full(prompt_tokens + prompt, prompt), np.arange(length), np.arange(length) >= 0)
        for number, (prompt, length) in enumerate(pairs)
    ]


@given(pairs=LENGTHS, prompt_tokens=st.integers(1, 30), batch_tokens=st.integers(1, 200), mixed=st.booleans())
def test_every_reading_once_within_the_bound(
    pairs: list[tuple[int, int]], prompt_tokens: int, batch_tokens: int, mixed: bool
) -> None:
    readings = readings_of(pairs, prompt_tokens)
    found = plan(readings, batch_tokens, share=True, mixed_lengths=mixed, turning_length=None)
    shared = [number for batch in found.shared for group in batch for number in group]
    assert sorted([number for batch in found.whole for number in batch] + shared) == list(range(len(readings)))
    for batch in found.whole:
        assert len(batch) == 1 or len(batch) * max(readings[number].length for number in batch) <= batch_tokens
    for batch in found.shared:
        prompts = [len(readings[group[0]].prompt) for group in batch]
        assert len(batch) == 1 or len(batch) * max(prompts) <= batch_tokens
        assert mixed or len(set(prompts)) == 1
        for group in batch:
            assert len(group) > 1
            assert len({readings[number].prompt.tobytes() for number in group}) == 1


def test_a_prompt_is_shared_where_that_spares_enough() -> None:
    pairs = [(0, 20)] * 4
    for prompt_tokens, spares in ((3, 9 / 92), (4, 12 / 96)):
        found = plan(readings_of(pairs, prompt_tokens), 1000, share=True, mixed_lengths=True, turning_length=None)
        assert bool(found.shared) == (spares >= 1 / 8)
    alone = plan(readings_of(pairs, 20), 1000, share=False, mixed_lengths=True, turning_length=None)
    assert alone.shared == []


def test_sequences_on_both_sides_of_a_turn_do_not_meet() -> None:
    readings = readings_of([(0, 3), (0, 4), (0, 5), (0, 6), (0, 7)], prompt_tokens=10)
    found = plan(readings, 1000, share=True, mixed_lengths=True, turning_length=14)
    assert found.whole == [[4, 3]], "16 and 17 tokens, of which the last is not read"
    assert [[sorted(group) for group in batch] for batch in found.shared] == [[[0, 1, 2]]]


@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=8), data=st.data())
def test_results_come_back_in_order(sizes: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(sizes))))
    computed = [(number, place) for number in order for place in range(sizes[number])]
    expected = [(number, place) for number, size in enumerate(sizes) for place in range(size)]
    assert [computed[place] for place in _places_in_order(order, sizes).tolist()] == expected
