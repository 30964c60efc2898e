"""Ctrl-C: what is finished is kept, and the user is told how to go on."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator


@contextlib.contextmanager
def resumed_by(*command: object) -> Iterator[None]:
    """Let an interrupt of the block name the command that goes on from there."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"what is finished is kept: go on with `{shlex.join(map(str, command))}`") from None
