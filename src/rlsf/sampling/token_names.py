"""From what a server calls tokens back to their ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NUMBERED = re.compile(r"token_id:(\d+)")
#: What a token that holds part of a character reads as.
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


def numbered(name: str) -> int | None:
    """The id in ``token_id:123``, as vLLM names tokens when asked to."""
    match = _NUMBERED.fullmatch(name)
    return int(match[1]) if match else None


def prompt_text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str | None:
    """The text that a server encodes to exactly these ids, None where there is none.

    Servers put special tokens in front of a text as the tokenizer does, so the text may have to leave them out.
    """
    written = tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(written, str)
    for text in (written, written.removeprefix(str(tokenizer.bos_token))):
        if tokenizer.encode(text) == list(token_ids):
            return text
    return None


class TokenNames:
    """The tokens of a vocabulary by their text, as servers without ids name them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the vocabulary."""
        return self._tokenizer

    @cached_property
    def _candidates(self) -> dict[str, set[int]]:
        """The ids that may go by a name: a token's text alone, its text inside a text, and its entry in the vocabulary.

        The first two differ where a decoder strips the first space of a text.
        """
        found: dict[str, set[int]] = {}
        vocabulary = self._tokenizer.get_vocab()
        ids = sorted(vocabulary.values())
        alone = self._decode([[token] for token in ids])
        anchor = next((i for i, text in zip(ids, alone, strict=True) if text.isascii() and text.isalnum()), None)
        for name, token in vocabulary.items():
            found.setdefault(name, set()).add(token)
        for text, token in zip(alone, ids, strict=True):
            found.setdefault(text, set()).add(token)
        if anchor is not None:
            start = len(self._decode([[anchor]])[0])
            for text, token in zip(self._decode([[anchor, token] for token in ids]), ids, strict=True):
                found.setdefault(text[start:], set()).add(token)
        return found

    def _decode(self, ids: list[list[int]]) -> list[str]:
        return self._tokenizer.batch_decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def one(self, name: str) -> int | None:
        """The id of a token, None where no token or several have that name."""
        ids = self._candidates.get(name, set())
        return next(iter(ids)) if len(ids) == 1 else None

    def sequence(self, names: Sequence[str], text: str) -> list[int] | None:
        """The ids of a completion whose tokens have these names, None where they cannot be told for certain.

        Names that several tokens share are told apart by what ``text`` encodes to, without the special tokens at its
        end, where no other reading gives the same text.
        """
        options = [self._candidates.get(name, set()) for name in names]
        if not all(options):
            return None
        if all(len(ids) == 1 for ids in options) and not any(_INCOMPLETE in name for name in names):
            return [next(iter(ids)) for ids in options]
        encoded: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        special = [next(iter(ids)) for ids in options[len(encoded) :] if ids <= set(self._tokenizer.all_special_ids)]
        ids = [*encoded, *special]
        if len(ids) != len(options) or not all(i in allowed for i, allowed in zip(ids, options, strict=True)):
            return None
        return ids if self._is_only_reading(ids, options) else None

    def _is_only_reading(self, ids: list[int], options: Sequence[set[int]]) -> bool:
        """Whether the text reads differently once a token is replaced by another of the same name."""
        others = [
            [*ids[:place], other, *ids[place + 1 :]]
            for place, allowed in enumerate(options)
            for other in allowed - {ids[place]}
        ]
        return not others or self._decode([ids])[0] not in self._decode(others)

    def unclear(self, names: Iterable[str]) -> str:
        """The first name that no token has, or that several share, for messages."""
        return next((name for name in names if self.one(name) is None), "")
