"""The exact mapping between the tokens of a trace and the characters of its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Half-open ranges of characters, one a token.
Ranges = list[tuple[int, int]]

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True, eq=False)
class TokenText:
    """The text of T tokens and, for each, the half-open range [starts[t], ends[t]) of characters it contributes to.

    Both arrays have shape [T] and never decrease, and every character is covered. A special token contributes to
    none (start equals end); a character whose bytes are spread over several tokens belongs to each of them.
    """

    text: str
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]

    @classmethod
    def from_ids(cls, tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int] | NDArray[np.integer]) -> TokenText:
        """The text of ``token_ids`` without special tokens, exactly as the tokenizer decodes them together."""
        text, ranges = _locate(tokenizer, [int(token_id) for token_id in token_ids])
        starts, ends = np.array(ranges, dtype=np.int32).reshape(-1, 2).T
        return cls(text, starts, ends)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text of each token; joined they give ``text``. A character split over tokens is with the first."""
        boundaries = [0, *self.ends.tolist()]
        return tuple(self.text[start:end] for start, end in pairwise(boundaries))

    def span_of_characters(self, start: int, end: int) -> tuple[int, int]:
        """The tokens [first, last) that contribute to the characters [start, end).

        Raises ``ValueError`` for a range that is empty or leaves the text.
        """
        if not 0 <= start < end <= len(self.text):
            raise ValueError(f"characters [{start}, {end}) are not in a text of {len(self.text)}")
        first = np.searchsorted(self.ends, start, side="right")
        last = np.searchsorted(self.starts, end, side="left")
        return int(first), int(last)

    def characters_of_span(self, first: int, last: int) -> tuple[int, int]:
        """The characters [start, end) that the tokens [first, last) contribute to."""
        if not 0 <= first < last <= len(self):
            raise ValueError(f"tokens [{first}, {last}) are not among {len(self)}")
        return int(self.starts[first]), int(self.ends[last - 1])


@dataclass(slots=True)
class _Pieces:
    """What tokens read as, decoded alone (``leading``) and after the token ``anchor`` (``inside``).

    The two differ where a decoder strips the first space of a text or joins words with spaces.
    """

    anchor: int | None
    leading: dict[int, str] = field(default_factory=dict)
    inside: dict[int, str] = field(default_factory=dict)


_known_pieces: WeakKeyDictionary[PreTrainedTokenizerBase, _Pieces] = WeakKeyDictionary()


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def _decode_after(tokenizer: PreTrainedTokenizerBase, anchor: int, ids: list[int]) -> str:
    return _decode(tokenizer, [anchor, *ids])[len(_decode(tokenizer, [anchor])) :]


def _find_anchor(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """A token that reads as plain letters or digits wherever it stands."""
    return next((i for i in range(len(tokenizer)) if _is_plain(_decode(tokenizer, [i]))), None)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isalnum()


def _locate(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> tuple[str, Ranges]:
    """The decoding of ``ids`` and the characters of each token.

    Each token is decoded once and the joined pieces are compared with the decoding of the whole, which settles most
    traces. Where tokens hold parts of characters, only those runs are decoded prefix by prefix; where a tokenizer's
    tokens depend on more than being first, the whole trace is.
    """
    text = _decode(tokenizer, ids)
    known = _known_pieces.get(tokenizer)
    if known is None:
        known = _known_pieces[tokenizer] = _Pieces(_find_anchor(tokenizer))
    ranges = None
    if known.anchor is not None:
        pieces = _read_pieces(tokenizer, known, known.anchor, ids)
        if "".join(pieces) == text:
            return text, list(pairwise(accumulate(map(len, pieces), initial=0)))
        ranges = _by_runs(tokenizer, known.anchor, ids, pieces, text)
    return text, ranges if ranges is not None else _by_prefixes(lambda part: _decode(tokenizer, part), ids)


def _read_pieces(tokenizer: PreTrainedTokenizerBase, known: _Pieces, anchor: int, ids: list[int]) -> list[str]:
    inside = known.inside
    for token_id in ids:
        if token_id not in inside:
            inside[token_id] = _decode_after(tokenizer, anchor, [token_id])
    pieces = [inside[token_id] for token_id in ids]
    first = next((t for t, piece in enumerate(pieces) if piece), None)
    if first is not None:
        if ids[first] not in known.leading:
            known.leading[ids[first]] = _decode(tokenizer, [ids[first]])
        pieces[first] = known.leading[ids[first]]
    return pieces


def _by_runs(
    tokenizer: PreTrainedTokenizerBase, anchor: int, ids: list[int], pieces: list[str], text: str
) -> Ranges | None:
    """Ranges from known pieces and from prefixes of the runs of incomplete ones; None where they disagree with text."""
    ranges: Ranges = []
    position = 0
    for incomplete, run in groupby(range(len(ids)), key=lambda t: _INCOMPLETE in pieces[t]):
        tokens = list(run)
        if incomplete:
            is_first = not any(pieces[: tokens[0]])
            read = (
                (lambda part: _decode(tokenizer, part))
                if is_first
                else (lambda part: _decode_after(tokenizer, anchor, part))
            )
            run_ids = [ids[t] for t in tokens]
            run_text, run_ranges = read(run_ids), _by_prefixes(read, run_ids)
        else:
            run_pieces = [pieces[t] for t in tokens]
            run_text = "".join(run_pieces)
            run_ranges = list(pairwise(accumulate(map(len, run_pieces), initial=0)))
        if not text.startswith(run_text, position):
            return None
        ranges += [(position + start, position + end) for start, end in run_ranges]
        position += len(run_text)
    return ranges if position == len(text) else None


def _by_prefixes(read: Callable[[list[int]], str], ids: list[int]) -> Ranges:
    """Ranges from the decodings of ever longer prefixes: what a prefix shares with the whole is settled.

    A prefix that reads differently at its end holds the beginning of a character: its last token contributes to the
    next one.
    """
    text = read(ids)
    ranges: Ranges = []
    settled = reached = 0
    for count in range(1, len(ids) + 1):
        prefix = read(ids[:count])
        start, settled = settled, _settled(prefix, text, settled)
        reached = max(reached, min(settled + (len(prefix) > settled), len(text)))
        ranges.append((start, reached))
    return ranges


def _settled(prefix: str, text: str, settled: int) -> int:
    """How many characters ``prefix`` shares with ``text``, at least ``settled``."""
    if prefix[:settled] == text[:settled]:
        while settled < min(len(prefix), len(text)) and prefix[settled] == text[settled]:
            settled += 1
    return settled
