"""Strings that end a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


def decode_text(tokenizer: PreTrainedTokenizerBase, token_ids: list[list[int]]) -> list[str]:
    """The texts of completions: special tokens left out, spaces as the model wrote them."""
    texts: Any = tokenizer.batch_decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return texts


def text_before(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string in it."""
    places = [text.find(stop) for stop in stops]
    return text[: min((place for place in places if place >= 0), default=len(text))]


class StopStrings:
    """Finds the token with which the text of a completion first contains a stop string.

    Exact over token boundaries: the whole completion is decoded and searched, but only for rows whose newest token
    can have been the last of a match. Which tokens can is worked out once, from the text of each token alone.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], vocabulary_size: int) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._can_complete = self._completing_tokens(vocabulary_size) if stops else None

    def _completing_tokens(self, vocabulary_size: int) -> Tensor:
        """Whether each id can complete a stop string, [V].

        A token completes one only if it holds its last character. Unknown from its own text for a part of a
        character, and for white space, which some decoders write between tokens.
        """
        endings = {stop[-1] for stop in self._stops}
        if any(ending.isspace() for ending in endings):
            return torch.ones(vocabulary_size, dtype=torch.bool)
        texts = decode_text(self._tokenizer, [[identifier] for identifier in range(vocabulary_size)])
        endings.add("\ufffd")
        return torch.tensor([not endings.isdisjoint(text) for text in texts])

    def completed(self, newest: Tensor, history: Tensor) -> Tensor:
        """Rows that contain a stop string now, [n] bool, given ids [n] and all ids so far [n, t]."""
        found = torch.zeros(len(newest), dtype=torch.bool)
        if self._can_complete is None:
            return found.to(newest.device)
        candidates = self._can_complete[newest.cpu()].nonzero().squeeze(1)
        texts = decode_text(self._tokenizer, history[candidates.to(history.device)].tolist())
        found[candidates] = torch.tensor(
            [any(stop in text for stop in self._stops) for text in texts], dtype=torch.bool
        )
        return found.to(newest.device)

    def trim(self, text: str) -> str:
        """The text before its first stop string."""
        return text_before(text, self._stops)
