"""Which tokens count as a word, and the exact probability of a word that is spelt."""

from __future__ import annotations

import pytest
from small_judges import letters_tokenizer, words_tokenizer

from rlsf.errors import InputError
from rlsf.judging.words import Spelling, Verdicts, spellings


def tokens_of(text: str) -> Spelling:
    return tuple(letters_tokenizer().encode(text))


def test_every_single_token_variant_counts() -> None:
    tokenizer = words_tokenizer(["True", "\u0120True", "true", "\u2581true", "TRUE", "Truer", "False"])
    names = {tokenizer.convert_ids_to_tokens(ids[0]) for ids in spellings(tokenizer, "True")}
    assert names == {"True", "\u0120True", "true", "\u2581true"}
    assert all(len(ids) == 1 for ids in spellings(tokenizer, "True"))


def test_a_word_without_a_token_is_spelt_in_all_variants() -> None:
    found = spellings(letters_tokenizer(), "True")
    assert set(found) == {tokens_of(text) for text in ("True", "true", " True", " true")}


def test_of_spellings_that_begin_alike_the_shorter_counts_alone() -> None:
    tokenizer = words_tokenizer(["a", "Verdict:"])

    class Joined(type(tokenizer)):
        def __call__(self, text: str, **options: object) -> dict[str, list[int]]:
            return {"input_ids": [7] if text == "Yes" else [7, 8] if text == "yes" else [9]}

    tokenizer.__class__ = Joined
    assert spellings(tokenizer, "Yes") == ((7,), (9,))


def test_words_that_cannot_be_told_apart_or_written() -> None:
    with pytest.raises(InputError, match="cannot write the word 'Verum'"):
        Verdicts.of(words_tokenizer(), "Verum", "False")
    with pytest.raises(InputError, match="with the same tokens"):
        Verdicts.of(letters_tokenizer(), "Yes", "Yesno")


def test_words_of_single_tokens_are_sets_of_tokens() -> None:
    tokenizer = words_tokenizer()
    sets = Verdicts.of(tokenizer, "True", "False").token_sets
    assert sets is not None
    names = [set(tokenizer.convert_ids_to_tokens(ids)) for ids in sets]
    assert names == [{"True", "true", "\u0120True"}, {"False", "\u0120false"}]
    assert Verdicts.of(letters_tokenizer(), "True", "False").token_sets is None
