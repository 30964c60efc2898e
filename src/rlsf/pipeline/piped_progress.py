"""The progress of another process, told line by line through a pipe and shown here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from rlsf.pipeline.progress import Advance, ProgressDisplay

#: Begins each line that tells of progress; what follows is JSON.
MARK = "rlsf-progress "


class PipedProgress(ProgressDisplay):
    """Tells on standard output what a display would show; ``heard=False`` tells nothing."""

    def __init__(self, *, heard: bool = True) -> None:
        super().__init__()
        self.heard = heard

    def say(self, text: str, *, style: str | None = None) -> None:
        """One line, to be shown by who listens."""
        self._tell(say=text, style=style)

    @contextlib.contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        """A stage, to be shown by who listens."""
        self._tell(stage=title, total=total, done=done)
        yield lambda units: self._tell(advance=units)
        self._tell(end=title)

    def _tell(self, **told: Any) -> None:
        if self.heard:
            print(MARK + json.dumps(told), flush=True)


class Listener:
    """Shows on a display what a ``PipedProgress`` tells; close it when there is nothing more to hear."""

    def __init__(self, display: ProgressDisplay) -> None:
        self.display = display
        self._stage = contextlib.ExitStack()
        self._advance: Advance | None = None

    def hear(self, line: str) -> bool:
        """Show a line of the other process; returns whether it told of progress."""
        if not line.startswith(MARK):
            return False
        told = json.loads(line.removeprefix(MARK))
        if "say" in told:
            self.display.say(told["say"], style=told["style"])
        elif "stage" in told:
            stage = self.display.stage(told["stage"], told["total"], told["done"])
            self._advance = self._stage.enter_context(stage)
        elif "end" in told:
            self._stage.close()
        elif self._advance is not None:
            self._advance(told["advance"])
        return True
