"""Where a trace states the values that its answer rests on.

A number is one value however the tokenizer cuts it: "1,250.5" may be one token or seven, and what is measured on
values does not depend on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from rlsf.answers.number import find_numbers

#: A half-open range of tokens or of characters.
Span = tuple[int, int]

#: A sign of arithmetic between two terms: of "3 + 4" and "(3+4)*2", but not of "- item", "x-axis" or "10-year".
_OPERATOR = re.compile(r"(?<=[0-9)\]}%])[ ]?(?P<operator>[-−+*×·/÷^])(?=[ ]?[-−$(\[{\\.0-9])")
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"(?:(?![.!?]\s).)+[.!?]?")


def value_spans(pieces: Sequence[str], answer: Span) -> list[Span]:
    """The values of a trace, from left to right, as ranges of tokens; the answer is one of them.

    ``pieces`` holds the text of each token, ``answer`` the tokens of the answer. Values are the numbers, as
    ``rlsf.answers`` reads them, the signs of arithmetic between them, and the answer. In a trace without numbers the
    words outside the answer's own sentence stand for them, so that a bare answer is its only value. The first token,
    which CoT-decoding imposes, counts only within the answer.
    """
    text = "".join(pieces)
    ends = np.fromiter(accumulate(map(len, pieces)), dtype=np.int64, count=len(pieces))
    starts = np.concatenate([[0], ends[:-1]])
    characters = _numbers_and_operators(text)
    if not characters:
        characters = _words_of_other_sentences(text, int(starts[answer[0]]), int(ends[answer[1] - 1]))
    spans = {
        (max(int(np.searchsorted(ends, start, side="right")), 1), int(np.searchsorted(starts, end, side="left")))
        for start, end in characters
    }
    outside = (span for span in spans if span[0] < span[1] and (span[1] <= answer[0] or span[0] >= answer[1]))
    return sorted([*outside, answer])


def _numbers_and_operators(text: str) -> list[Span]:
    numbers = [(number.start, number.end) for number in find_numbers(text)]
    return [*numbers, *(match.span("operator") for match in _OPERATOR.finditer(text))] if numbers else []


def _words_of_other_sentences(text: str, start: int, end: int) -> list[Span]:
    """Words of the sentences, ended by a full stop or a line, that share no character with [start, end)."""
    sentences = [match.span() for match in _SENTENCE.finditer(text)]
    others = [sentence for sentence in sentences if sentence[1] <= start or sentence[0] >= end]
    return [word.span() for first, last in others for word in _WORD.finditer(text, first, last)]
