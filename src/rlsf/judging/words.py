"""The words of a verdict as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlsf.errors import InputError
from rlsf.prompts.rendering import encode_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: How vocabularies write a space before a word: byte-level, SentencePiece, plain.
_SPACES = "\u0120\u2581 "
Spelling = tuple[int, ...]


def spellings(tokenizer: PreTrainedTokenizerBase, word: str) -> tuple[Spelling, ...]:
    """The sequences of tokens that count as ``word``.

    All single tokens of the vocabulary that are the word in any case, with or without a space before (``True``,
    `` True``, ``true``, ``TRUE``...). Of the word as given, in lower case and with a capital, each with and without a
    space, what has no token of its own is spelt out as the tokenizer would, and has the exact product over its tokens;
    of two spellings of which one begins the other, the shorter counts alone. Raises ``InputError`` where the tokenizer
    cannot write the word.
    """
    word = word.strip()
    single = {
        token: token_id
        for token, token_id in tokenizer.get_vocab().items()
        if token.lstrip(_SPACES).lower() == word.lower()
    }
    found: set[Spelling] = {(token_id,) for token_id in single.values()}
    for variant in {word, word.lower(), word.capitalize()}:
        owned = {token.startswith(tuple(_SPACES)) for token in single if token.lstrip(_SPACES) == variant}
        found |= {tuple(encode_plain(" " * space + variant, tokenizer)) for space in {False, True} - owned}
    writable = [ids for ids in found if ids and tokenizer.unk_token_id not in ids]
    if not writable:
        raise InputError(
            f"the tokenizer cannot write the word {word!r}, so nothing can be judged by it: choose other words with"
            " judge.true_word and judge.false_word"
        )
    return tuple(sorted(ids for ids in writable if not any(ids[:end] in writable for end in range(1, len(ids)))))


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The two words, each by its spellings."""

    true: tuple[Spelling, ...]
    false: tuple[Spelling, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, true_word: str, false_word: str) -> Verdicts:
        """Raises ``InputError`` where a word cannot be written, or one spelling would count for both."""
        true, false = spellings(tokenizer, true_word), spellings(tokenizer, false_word)
        if any(one[: len(other)] == other or other[: len(one)] == one for one in true for other in false):
            raise InputError(
                f"the tokenizer writes {true_word!r} and {false_word!r} with the same tokens: choose other words with"
                " judge.true_word and judge.false_word"
            )
        return cls(true, false)

    @property
    def spellings(self) -> tuple[Spelling, ...]:
        """Those of the true word, then those of the false one."""
        return (*self.true, *self.false)

    @property
    def token_sets(self) -> tuple[list[int], list[int]] | None:
        """The tokens of each word, None where some spelling takes several."""
        if any(len(spelling) > 1 for spelling in self.spellings):
            return None
        return [ids[0] for ids in self.true], [ids[0] for ids in self.false]
