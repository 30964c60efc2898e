"""How wide tables may be."""

from __future__ import annotations

from rich.console import Console


def wide_enough(console: Console, width: int) -> Console:
    """``console``, or one of this width for a file or a pipe, which Rich takes for a narrow terminal."""
    return console if console.is_terminal else Console(width=max(width, console.width))
