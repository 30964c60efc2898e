"""Token ranges and characters of decoded text agree, whatever the tokenizer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers import TokenText

FAMILIES = [
    "byte_level_bpe",
    "byte_level_bpe_digits",
    "merged_punctuation_bpe",
    "metaspace_unigram",
    "byte_fallback_bpe",
    "word_level",
]


def decode(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def ranges_by_prefixes(tokenizer, ids):
    """Where each token ends, by the definition: the settled characters of the decoded prefix that ends with it."""
    text = decode(tokenizer, ids)
    ends = []
    for count in range(1, len(ids) + 1):
        prefix = decode(tokenizer, ids[:count])
        same = [a == b for a, b in zip(prefix, text, strict=False)]
        settled = same.index(False) if False in same else len(same)
        # A run of byte tokens that ends inside a character reads as nothing but replacement characters.
        ends.append(max(settled, ends[-1] if ends else 0))
    return ends


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_any_ids_map_onto_their_decoding(family, tokenizer_of, data) -> None:
    tokenizer = tokenizer_of(family)
    # Two ids beyond the vocabulary: models pad their output layer, and such ids decode to nothing.
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) + 1), max_size=30))
    result = TokenText.from_ids(tokenizer, ids)
    assert result.text == decode(tokenizer, ids)
    assert len(result) == len(ids) == len(result.pieces)
    assert "".join(result.pieces) == result.text
    assert (np.diff(result.starts) >= 0).all()
    assert (np.diff(result.ends) >= 0).all()
    assert (result.starts <= result.ends).all()


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=25))
def test_encoded_text_maps_as_prefix_decoding_says(family, tokenizer_of, text) -> None:
    tokenizer = tokenizer_of(family)
    ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    result = TokenText.from_ids(tokenizer, ids)
    settled = ranges_by_prefixes(tokenizer, ids)
    assert result.starts.tolist() == [0, *settled[:-1]]
    # A token that holds the beginning of a character contributes to that character too.
    assert all(end - done in (0, 1) for end, done in zip(result.ends.tolist(), settled, strict=True))
    assert result.starts[-1] == result.ends[-1] == len(result.text)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_a_span_covers_its_characters_and_no_token_more(family, tokenizer_of, data) -> None:
    tokenizer = tokenizer_of(family)
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=20))
    result = TokenText.from_ids(tokenizer, ids)
    if not result.text:
        return
    start = data.draw(st.integers(0, len(result.text) - 1))
    end = data.draw(st.integers(start + 1, len(result.text)))
    first, last = result.span_of_characters(start, end)
    touching = [t for t in range(len(ids)) if result.starts[t] < end and result.ends[t] > start]
    assert (first, last) == (touching[0], touching[-1] + 1)
    covered = result.characters_of_span(first, last)
    assert covered[0] <= start
    assert covered[1] >= end


def test_a_character_split_over_tokens_belongs_to_each(tokenizer_of) -> None:
    # "日" is the bytes E6 97 A5: three tokens of a byte-level vocabulary without a merge for them.
    tokenizer = tokenizer_of("byte_level_bpe")
    ids = tokenizer.encode("is日.", add_special_tokens=False)
    result = TokenText.from_ids(tokenizer, ids)
    assert result.pieces == ("is", "日", "", "", ".")
    assert list(zip(result.starts.tolist(), result.ends.tolist(), strict=True)) == [
        (0, 2),
        (2, 3),
        (2, 3),
        (2, 3),
        (3, 4),
    ]
    assert result.span_of_characters(2, 3) == (1, 4)


def test_leading_space_is_stripped_only_at_the_start(tokenizer_of) -> None:
    tokenizer = tokenizer_of("metaspace_unigram")
    answer = tokenizer.convert_tokens_to_ids("▁42")
    result = TokenText.from_ids(tokenizer, [tokenizer.bos_token_id, answer, answer])
    assert result.pieces == ("", "42", " 42")


def test_special_tokens_have_no_text(tokenizer) -> None:
    ids = tokenizer.encode("12", add_special_tokens=False)
    result = TokenText.from_ids(tokenizer, [*ids, tokenizer.eos_token_id, tokenizer.pad_token_id])
    assert result.text == "12"
    assert result.pieces[-2:] == ("", "")
    assert result.span_of_characters(0, 2) == (
        next(t for t, piece in enumerate(result.pieces) if piece),
        len(ids),
    )


def test_empty_trace(tokenizer) -> None:
    result = TokenText.from_ids(tokenizer, [])
    assert (result.text, len(result), result.pieces) == ("", 0, ())


def test_arrays_of_ids_are_accepted(tokenizer_of) -> None:
    tokenizer = tokenizer_of("byte_level_bpe")
    ids = np.array(tokenizer.encode("The answer is 42.", add_special_tokens=False), dtype=np.int32)
    assert TokenText.from_ids(tokenizer, ids).text == "The answer is 42."


@pytest.mark.parametrize(("start", "end"), [(0, 0), (-1, 1), (1, 4), (2, 1)])
def test_characters_outside_the_text_are_refused(start, end) -> None:
    token_text = TokenText("abc", np.array([0, 1]), np.array([1, 3]))
    with pytest.raises(ValueError, match="are not in a text of 3"):
        token_text.span_of_characters(start, end)


def test_tokens_outside_the_trace_are_refused() -> None:
    token_text = TokenText("abc", np.array([0, 1]), np.array([1, 3]))
    assert token_text.characters_of_span(1, 2) == (1, 3)
    with pytest.raises(ValueError, match="are not among 2"):
        token_text.characters_of_span(1, 3)
