"""Round trips: an answer written into a text, encoded, decoded and found again at exactly its tokens."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers import TokenText, find_answer
from rlsf.answers.config import AnswerConfig

OPEN_FAMILIES = [
    "byte_level_bpe",
    "byte_level_bpe_digits",
    "merged_punctuation_bpe",
    "metaspace_unigram",
    "byte_fallback_bpe",
]
WORDS = st.lists(
    st.sampled_from(["The", "answer", "is", "naïve", "Bücher", "日本", "€", "so", "pays", "we", "get", "🙂", "total:"]),
    max_size=8,
).map(" ".join)


@st.composite
def numbers(draw) -> tuple[str, str]:
    """A number as written, and its canonical form by ``decimal``."""
    value = draw(st.integers(-(10**7), 10**7))
    places = draw(st.sampled_from([0, 0, 1, 2]))
    number = Decimal(value).scaleb(-places)
    written = format(number, draw(st.sampled_from(["f", ",f"])))
    return written, format(number.normalize() if number else Decimal(0), "f")


def check_span(tokenizer, ids, answer, text, start, end) -> None:
    """The span starts with the token that brings the first character and ends with the one that brings the last.

    Told by lengths of decoded prefixes, independently of ``TokenText``.
    """

    def decoded(count: int) -> int:
        return len(tokenizer.decode(ids[:count], skip_special_tokens=True))

    assert decoded(answer.start) <= start < decoded(answer.start + 1)
    assert decoded(answer.end - 1) < end <= decoded(answer.end)
    assert text[start:end] in tokenizer.decode(ids[answer.start : answer.end])


def round_trip(tokenizer, before, written, after, config, choices=()):
    ids = [*tokenizer.encode(before + written + after, add_special_tokens=False), tokenizer.eos_token_id]
    token_text = TokenText.from_ids(tokenizer, ids)
    finding = find_answer(token_text, config, choices)
    assert finding.answer is not None, finding.failure
    # Characters outside a unigram vocabulary are lost in encoding, so the place is looked up in what is left.
    start = token_text.text.rindex(written)
    check_span(tokenizer, ids, finding.answer, token_text.text, start, start + len(written))
    return finding.answer


@pytest.mark.parametrize("family", OPEN_FAMILIES)
@given(
    number=numbers(),
    before=WORDS,
    join=st.sampled_from([" ", " = ", "\n", " (", ": ", " $", "=", " **", ">>"]),
    after=st.sampled_from(["", ".", ".\n", "%", ")", ", so", " apples.", "**", "!", " km/h", "\\)", "</s>"]),
)
def test_numbers_survive_every_tokenizer(family, tokenizer_of, number, before, join, after) -> None:
    written, canonical_form = number
    answer = round_trip(tokenizer_of(family), before + join, written, after, AnswerConfig(format="number"))
    assert answer.text == canonical_form


@pytest.mark.parametrize("family", OPEN_FAMILIES)
@given(letter=st.sampled_from("ABCDE"), before=WORDS, data=st.data())
def test_letters_survive_every_tokenizer(family, tokenizer_of, letter, before, data) -> None:
    opening, closing = data.draw(
        st.sampled_from(
            [(" answer is (", ")."), ("\nAnswer: ", ""), (" answer is ", "."), ("\n", ") word"), (" (", ")")]
        )
    )
    answer = round_trip(tokenizer_of(family), before + opening, letter, closing, AnswerConfig(format="choice"))
    assert answer.text == letter


DELIMITED = {"boxed": ("\\boxed{", "}"), "tag": ("<answer>", "</answer>"), "regex": ("#### ", "\n")}


@pytest.mark.parametrize("family", OPEN_FAMILIES)
@given(
    number=numbers(), before=WORDS, format=st.sampled_from(sorted(DELIMITED)), after=st.sampled_from(["", ".", " then"])
)
def test_delimited_answers_survive_every_tokenizer(family, tokenizer_of, number, before, format, after) -> None:
    written, canonical_form = number
    opening, closing = DELIMITED[format]
    config = AnswerConfig(format=format, pattern=r"#### (\S+)" if format == "regex" else None)
    answer = round_trip(tokenizer_of(family), f"{before} {opening}", written, closing + after, config)
    assert answer.text == canonical_form


@given(words=st.lists(st.sampled_from(["the", "answer", "is", "so", "we"]), max_size=6), number=numbers())
def test_numbers_survive_whole_words(word_tokenizer, words, number) -> None:
    written, canonical_form = number
    # The full stop is part of the word, as is the currency sign: the span is that one token.
    tokenizer = word_tokenizer(sorted({*words, f"${written}."}))
    before = " ".join([*words, "$"]) if words else "$"
    answer = round_trip(tokenizer, before, written, ".", AnswerConfig(format="number"))
    assert answer.text == canonical_form
    assert (answer.start, answer.end) == (len(words), len(words) + 1)


@pytest.mark.parametrize("family", OPEN_FAMILIES)
@given(first=numbers(), second=numbers())
def test_occurrences(family, tokenizer_of, first, second) -> None:
    tokenizer = tokenizer_of(family)
    ids = tokenizer.encode(f"First {first[0]} pears and then {second[0]}.", add_special_tokens=False)
    token_text = TokenText.from_ids(tokenizer, ids)
    earliest = find_answer(token_text, AnswerConfig(format="number", occurrence="earliest")).answer
    last = find_answer(token_text, AnswerConfig(format="number")).answer
    assert earliest is not None
    assert last is not None
    assert (earliest.text, last.text) == (first[1], second[1])
    assert earliest.end <= last.start


def test_split_digits_are_one_span(tokenizer_of) -> None:
    tokenizer = tokenizer_of("byte_level_bpe_digits")
    ids = tokenizer.encode("is 1,234.", add_special_tokens=False)
    token_text = TokenText.from_ids(tokenizer, ids)
    assert token_text.pieces == ("is", " ", "1", ",", "2", "3", "4", ".")
    answer = find_answer(token_text, AnswerConfig()).answer
    assert answer is not None
    assert (answer.text, answer.start, answer.end) == ("1234", 2, 7)


def test_a_leading_space_merged_with_the_number_is_in_the_span(tokenizer_of) -> None:
    tokenizer = tokenizer_of("byte_level_bpe")
    ids = tokenizer.encode("The answer is 42.", add_special_tokens=False)
    token_text = TokenText.from_ids(tokenizer, ids)
    assert token_text.pieces == ("The", " answer", " is", " 42", ".")
    answer = find_answer(token_text, AnswerConfig()).answer
    assert answer is not None
    assert (answer.text, answer.start, answer.end) == ("42", 3, 4)
