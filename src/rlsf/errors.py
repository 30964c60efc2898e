"""What can go wrong, in three words a caller can act on.

``InputError``     the user gave something unusable: one line that names the value, the place and the remedy.
``ResourceError``  the machine could not do it (disk full, memory): what was finished is kept.
``ModelError``     the model misbehaved (NaN logits, no weights).

The command line prints the message alone and exits with code 2. Everything else is a bug and keeps its
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RlsfError(Exception):
    """Base of every error that rlsf raises on purpose."""


class InputError(RlsfError, ValueError):
    """A value, file or option of the user's that cannot be used."""


class ResourceError(RlsfError, OSError):
    """The machine refused: no space, no permission."""


class ModelError(RlsfError, RuntimeError):
    """The model or tokenizer cannot do what is asked of it."""


def near_names(name: str, known: Iterable[str], limit: int = 3) -> str:
    """`` (did you mean 'a' or 'b'?)`` for the names closest to ``name``, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=limit, cutoff=0.5)
    if not matches:
        return ""
    return f" (did you mean {' or '.join(repr(match) for match in matches)}?)"


def shortened(text: str, limit: int = 200) -> str:
    """``text`` on one line of at most ``limit`` characters, for messages."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
