"""Which tokens count as a word, and the exact probability of a word that is spelt."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_judges import letters_tokenizer, words_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlsf.errors import InputError
from rlsf.judging.words import Spelling, Verdicts, spellings


def tokens_of(text: str) -> Spelling:
    return tuple(letters_tokenizer().encode(text))


def test_every_single_token_variant_counts() -> None:
    tokenizer = words_tokenizer(["True", "\u0120True", "true", "\u2581true", "TRUE", "Truer", "False"])
    names = {tokenizer.convert_ids_to_tokens(ids[0]) for ids in spellings(tokenizer, "True")}
    assert names == {"True", "\u0120True", "true", "\u2581true", "TRUE"}
    assert all(len(ids) == 1 for ids in spellings(tokenizer, "True"))


@pytest.mark.parametrize("word", ["True", "true", " True"])
def test_a_word_without_a_token_is_spelt_in_all_variants(word: str) -> None:
    found = spellings(letters_tokenizer(), word)
    texts = {"True", "true", " True", " true"}
    assert set(found) == {tokens_of(text) for text in texts}


def byte_level() -> PreTrainedTokenizerFast:
    """Bytes, `` Tr``, `` True`` and ``True``: no tokens for ``true``, `` true`` and any ``False``."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "Tr", "\u0120Tr", "ue", "True", "\u0120True"]
    merges = [("T", "r"), ("\u0120", "Tr"), ("u", "e"), ("Tr", "ue"), ("\u0120Tr", "ue")]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def sentencepiece() -> PreTrainedTokenizerFast:
    """Pieces that carry the space before them; text begins with one."""
    tokens = ["\u2581", *"Truefals", "\u2581True", "\u2581true", "\u2581False", "False"]
    pieces = [("<unk>", 0.0), *((token, -float(len(tokens) - place)) for place, token in enumerate(tokens))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize(
    ("build", "word", "spelt"),
    [
        (byte_level, "True", {"True", "\u0120True", "t r ue", "\u0120 t r ue"}),
        (byte_level, "False", {"F a l s e", "f a l s e", "\u0120 F a l s e", "\u0120 f a l s e"}),
        (sentencepiece, "True", {"\u2581True", "\u2581true"}),
        (sentencepiece, "False", {"\u2581False", "False", "\u2581 f a l s e"}),
    ],
)
def test_a_variant_without_a_token_of_its_own_is_spelt_beside_those_that_have_one(
    build: Callable[[], PreTrainedTokenizerFast], word: str, spelt: set[str]
) -> None:
    tokenizer = build()
    found = [tokenizer.convert_ids_to_tokens(list(ids)) for ids in spellings(tokenizer, word)]
    assert {" ".join(tokens) for tokens in found} == spelt
    assert len(found) == len(spelt)


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
