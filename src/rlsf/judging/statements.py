"""Where one statement of a reasoning ends and the next begins."""

from __future__ import annotations

import re

from rlsf.judging.config import StatementEnds

#: A line's end, or also a sentence's: a mark with white space after it.
_ENDS: dict[StatementEnds, re.Pattern[str]] = {
    "lines": re.compile(r"\s*\n\s*"),
    "sentences": re.compile(r"\s*\n\s*|(?<=[.!?])[\"')\]]*\s+"),
}
#: The number or letter of an item, which belongs to what follows: ``2.``, ``(b)``, ``Step 3:``.
_MARKER = re.compile(r"\W*(?:step\s+\d{1,3}|\d{1,3}|[a-z])[.):\]]+\W*", re.IGNORECASE)


def statements(text: str, ends: StatementEnds = "sentences") -> list[str]:
    """The statements of a reasoning: its lines, and within a line its sentences where ``ends`` says so.

    A sentence ends with ``.``, ``!`` or ``?`` before white space, so that decimal numbers stay whole; an abbreviation
    with a point in it may be cut. The marker of an item (``2.``, ``Step 3:``) goes with what follows; what holds no
    letter and no digit goes with what stands before it. Joined, the statements are ``text``, white space and all; a
    text of white space alone has none.
    """
    pieces: list[str] = []
    start = 0
    for end in [*(match.end() for match in _ENDS[ends].finditer(text)), len(text)]:
        piece = text[start:end]
        if end < len(text) and _MARKER.fullmatch(piece):
            continue
        start = end
        if pieces and not any(character.isalnum() for character in piece):
            pieces[-1] += piece
        elif piece:
            pieces.append(piece)
    if len(pieces) > 1 and not any(character.isalnum() for character in pieces[0]):
        pieces[:2] = ["".join(pieces[:2])]
    return pieces if text.strip() else []
