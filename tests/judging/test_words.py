"""Which tokens count as a word, and the exact probability of a word that is spelt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from small_judges import letters_tokenizer, words_tokenizer

from rlsf.errors import InputError
from rlsf.judging.words import Spelling, Vocabulary, spellings


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
        Vocabulary.of(words_tokenizer(), "Verum", "False")
    with pytest.raises(InputError, match="with the same tokens"):
        Vocabulary.of(letters_tokenizer(), "Yes", "Yesno")


def test_a_chain_of_tokens_by_hand() -> None:
    vocabulary = Vocabulary(true=((5,), (6, 7)), false=((6, 8, 5),))
    assert vocabulary.stems == [(), (6,), (6, 8)]
    assert vocabulary.tokens == [5, 6, 7, 8]
    after: Mapping[Spelling, list[float]] = {
        (): [0.1, 0.5, 0.0, 0.0],
        (6,): [0.0, 0.0, 0.3, 0.4],
        (6, 8): [0.25, 0.0, 0.0, 0.0],
    }
    assert vocabulary.probabilities(after) == (pytest.approx(0.1 + 0.5 * 0.3), pytest.approx(0.5 * 0.4 * 0.25))


def test_words_of_random_models_add_up_to_at_most_one() -> None:
    vocabulary = Vocabulary.of(letters_tokenizer(), "True", "False")
    random = np.random.default_rng(0)
    for sharpness in (0.1, 1.0, 30.0):
        after = {stem: random.dirichlet(np.full(len(vocabulary.tokens), 1 / sharpness)) for stem in vocabulary.stems}
        true, false = vocabulary.probabilities(after)
        assert true >= 0
        assert false >= 0
        assert true + false <= 1 + 1e-9
