"""What the tests of commands and of mistakes share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Fails = Callable[..., str]
Succeeds = Callable[..., str]


def write(path: Path, *rows: dict | str) -> Path:
    """A file of JSON lines, or of lines as given."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path
