"""Kinds of traces that make sense for any model: was there reasoning, and was the answer copied from it?

Both matter to signals of the answer's span. A direct answer is decided inside the span; a worked one was decided before
it, and where its result is only repeated, the span's tokens are nearly certain whether or not the result is right.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlsf.answers.answer import Answer
from rlsf.answers.number import canonical_number, find_numbers

#: Tokens before the answer that are still a way of saying it: "The correct final answer is: **\\boxed{" has about ten.
DIRECT_TOKENS = 10


@dataclass(frozen=True, slots=True)
class TraceKind:
    """``worked``: more than a few tokens come before the answer. ``copied``: what it says was there before."""

    worked: bool
    copied: bool


def kind_of(pieces: Sequence[str], answer: Answer, direct_tokens: int = DIRECT_TOKENS) -> TraceKind:
    """The kind of a trace with the text ``pieces`` of its tokens and the span of its answer.

    ``worked``: more than ``direct_tokens`` tokens with text other than white space come before the span; else the
    trace is direct. ``copied``: the text before the span has the same number, in whatever spelling (1,250 and 1250),
    or, where the answer is not a number, the same text between word boundaries, capitals told apart; else the answer is
    computed.
    """
    before, said = pieces[: answer.start], "".join(pieces[answer.start : answer.end]).strip()
    spoken = itertools.islice((piece for piece in before if piece.strip()), direct_tokens + 1)
    return TraceKind(sum(1 for _ in spoken) > direct_tokens, _occurs(said, "".join(before)))


def _occurs(said: str, before: str) -> bool:
    number = canonical_number(said)
    if number is not None:
        return any(found.answer == number for found in find_numbers(before))
    return bool(said) and re.search(rf"(?<!\w){re.escape(said)}(?!\w)", before) is not None
