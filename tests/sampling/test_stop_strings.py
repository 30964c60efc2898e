"""Stop strings are found with the very token that completes them, whatever the tokenizer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from rlsf.sampling.stopping import StopStrings, decode_text

KINDS = ("bpe", "unigram", "wordpiece")


def first_completion(stops: StopStrings, ids: list[int]) -> int | None:
    """The number of tokens with which the search first reports a stop string."""
    for length in range(1, len(ids) + 1):
        if stops.completed(torch.tensor([ids[length - 1]]), torch.tensor([ids[:length]])).item():
            return length
    return None


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_against_searching_every_prefix(
    kind: str, data: st.DataObject, tokenizers_of_all_kinds: dict[str, PreTrainedTokenizerFast]
) -> None:
    tokenizer = tokenizers_of_all_kinds[kind]
    ids = data.draw(st.lists(st.integers(3, len(tokenizer) - 1), min_size=1, max_size=12))
    texts = [decode_text(tokenizer, [ids[:length]])[0] for length in range(1, len(ids) + 1)]
    start = data.draw(st.integers(0, max(0, len(texts[-1]) - 1)))
    stop = texts[-1][start : start + data.draw(st.integers(1, 4))] or "x"
    expected = next((length for length, text in enumerate(texts, 1) if stop in text), None)
    assert first_completion(StopStrings(tokenizer, [stop], len(tokenizer)), ids) == expected


def test_over_token_boundaries_in_a_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    stops = StopStrings(tokenizer, ["er is 4", "Stop"], len(tokenizer))
    rows = [tokenizer(text).input_ids[-3:] for text in ("The answer is 42", "The answer is 32", "xx. Stop")]
    assert min(map(len, rows)) == 3
    texts = decode_text(tokenizer, rows)
    found = stops.completed(torch.tensor([row[-1] for row in rows]), torch.tensor(rows))
    assert found.tolist() == ["er is 4" in text or "Stop" in text for text in texts]
    assert found.any()
    assert not found.all()


def test_trim_ends_before_the_first_stop_string(tokenizer: PreTrainedTokenizerFast) -> None:
    stops = StopStrings(tokenizer, ["\nQ:", "END"], len(tokenizer))
    assert stops.trim("42.\nQ: next END") == "42."
    assert stops.trim("42. END\nQ:") == "42. "
    assert stops.trim("42.") == "42."


def test_without_stop_strings_nothing_is_found(tokenizer: PreTrainedTokenizerFast) -> None:
    stops = StopStrings(tokenizer, [], len(tokenizer))
    assert not stops.completed(torch.tensor([5, 6]), torch.tensor([[5], [6]])).any()
    assert stops.trim("anything") == "anything"
