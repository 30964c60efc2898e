"""Real tokenizers of the three families that causal language models use, trained here on a few sentences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# The first call of a tokenizer is slow; properties are about results.
settings.register_profile("without_deadline", deadline=None)
settings.load_profile("without_deadline")

CORPUS = [
    "The answer is 42. There are 12 apples and 30 pears, so 12 + 30 = 42 in all.",
    "She pays $1,234.50 for 5 tickets (20% off) and gets -3.75 back; 10-5 is 5.",
    "Option (A) is wrong, option (B) is right. Therefore the correct answer is B.",
    "Während 100 000 Bücher für 3/4 des Preises weggehen, bleiben 1,000,000 naïve Leser.",
    "First we add 7 and 8 to get 15. Then we multiply by 60, which gives 900.",
]
SPECIAL = ["<unk>", "<s>", "</s>"]


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def byte_level_bpe(split_digits: bool = False) -> PreTrainedTokenizerFast:
    """GPT-2's family: merges over bytes, the leading space belongs to the word."""
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
        if split_digits
        else byte_level
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return _wrap(tokenizer)


def merged_punctuation_bpe() -> PreTrainedTokenizerFast:
    """Merges that cross every boundary: numbers fuse with spaces, brackets and full stops."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return _wrap(tokenizer)


def metaspace_unigram() -> PreTrainedTokenizerFast:
    """SentencePiece's family: a unigram model over words that begin with ▁; decoding strips the first space."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    alphabet = sorted({chr(i) for i in range(33, 127)} | set("äöüïß\n€▁"))
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=SPECIAL, unk_token="<unk>", initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return _wrap(tokenizer)


def byte_fallback_bpe() -> PreTrainedTokenizerFast:
    """Llama 2's family: SentencePiece BPE whose unknown characters fall back to byte tokens."""
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *(chr(i) for i in range(33, 127)), "▁t", "▁a", "is", "▁1", "42", "▁42"]
    merges = [("▁", "t"), ("▁", "a"), ("i", "s"), ("▁", "1"), ("4", "2"), ("▁", "42")]
    tokenizer = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return _wrap(tokenizer)


def word_level(words: list[str] | None = None) -> PreTrainedTokenizerFast:
    """Whole words between spaces; decoding joins them with spaces."""
    words = words or sorted({word for line in CORPUS for word in line.split()} | {str(n) for n in range(1000)})
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*SPECIAL, *words])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return _wrap(tokenizer)


TOKENIZERS = {
    "byte_level_bpe": byte_level_bpe(),
    "byte_level_bpe_digits": byte_level_bpe(split_digits=True),
    "merged_punctuation_bpe": merged_punctuation_bpe(),
    "metaspace_unigram": metaspace_unigram(),
    "byte_fallback_bpe": byte_fallback_bpe(),
    "word_level": word_level(),
}


@pytest.fixture(params=sorted(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Each tokenizer in turn."""
    return TOKENIZERS[request.param]


@pytest.fixture(scope="session")
def tokenizer_of() -> Callable[[str], PreTrainedTokenizerFast]:
    """``tokenizer_of("word_level")``: one tokenizer by name."""
    return lambda name: TOKENIZERS[name]


@pytest.fixture(scope="session")
def word_tokenizer() -> Callable[[list[str]], PreTrainedTokenizerFast]:
    """``word_tokenizer(words)``: a word-level tokenizer of exactly these words, ids from 3 on."""
    return word_level
