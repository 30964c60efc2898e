"""The words of a verdict as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """The sequences of tokens that count as ``word``: as given and in lower case, each with and without a space before.

    Where single tokens of the vocabulary are such variants, these are all (``True``, `` True``, ``true``...). Else the
    variants are spelt out as the tokenizer would, and a word's probability is the exact product over its tokens; of two
    spellings of which one begins the other, the shorter counts alone. Raises ``InputError`` where the tokenizer cannot
    write the word.
    """
    variants = {word.strip(), word.strip().lower()}
    single = sorted(token_id for token, token_id in tokenizer.get_vocab().items() if token.lstrip(_SPACES) in variants)
    if single:
        return tuple((token_id,) for token_id in single)
    spelt = {tuple(encode_plain(space + variant, tokenizer)) for variant in variants for space in ("", " ")}
    writable = [ids for ids in spelt if ids and tokenizer.unk_token_id not in ids]
    if not writable:
        raise InputError(
            f"the tokenizer cannot write the word {word!r}, so nothing can be judged by it: choose other words with"
            " judge.true_word and judge.false_word"
        )
    return tuple(sorted(ids for ids in writable if not any(ids[:end] in writable for end in range(1, len(ids)))))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Both words, and where in them distributions are looked at.

    ``stems``: the beginnings of spellings, the empty one first, each a place whose next token matters. ``tokens``: the
    tokens whose probabilities are wanted there.
    """

    true: tuple[Spelling, ...]
    false: tuple[Spelling, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, true_word: str, false_word: str) -> Vocabulary:
        """Raises ``InputError`` where a word cannot be written, or one spelling would count for both."""
        true, false = spellings(tokenizer, true_word), spellings(tokenizer, false_word)
        if any(one[: len(other)] == other or other[: len(one)] == one for one in true for other in false):
            raise InputError(
                f"the tokenizer writes {true_word!r} and {false_word!r} with the same tokens: choose other words with"
                " judge.true_word and judge.false_word"
            )
        return cls(true, false)

    @property
    def stems(self) -> list[Spelling]:
        found = {spelling[:end] for spelling in (*self.true, *self.false) for end in range(len(spelling))}
        return sorted(found, key=lambda stem: (len(stem), stem))

    @property
    def tokens(self) -> list[int]:
        return sorted({token for spelling in (*self.true, *self.false) for token in spelling})

    def probabilities(self, after: Mapping[Spelling, Sequence[float]]) -> tuple[float, float]:
        """P(true word) and P(false word): sums over spellings of prod_k p(s_k | s_<k).

        ``after`` maps each stem to the probabilities of ``tokens`` after it.
        """
        place = {token: number for number, token in enumerate(self.tokens)}

        def of_word(word: Sequence[Spelling]) -> float:
            total = 0.0
            for spelling in word:
                product = 1.0
                for end, token in enumerate(spelling):
                    product *= after[spelling[:end]][place[token]]
                total += product
            return min(total, 1.0)  # rounding may lift the sum

        return of_word(self.true), of_word(self.false)
