"""What a comparison shows while it works: one line a running piece of work, and how many are done."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from rlsf.pipeline.comparing_folder import Ended


class ComparisonDisplay:
    """Bars on a terminal, a line for every end in a log; a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=self.console, transient=True) if self.console.is_terminal else None
        self._lines: dict[str, TaskID] = {}
        self._overall: TaskID | None = None
        self._begun, self._done, self._total = time.monotonic(), 0, 0

    def __enter__(self) -> ComparisonDisplay:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def begin(self, total: int, done: int) -> None:
        """``total`` pieces of work, ``done`` of them finished earlier."""
        self._total, self._done = total, done
        if self._bars is not None:
            self._overall = self._bars.add_task("comparison", total=total, completed=done)
        self.say(f"comparison: {total} pieces of work" + (f", {done} done before" if done else ""))

    def started(self, name: str) -> None:
        """A piece of work has a process now."""
        if self._bars is not None:
            self._lines[name] = self._bars.add_task(f"  {name}", total=None)

    def told(self, name: str, message: tuple[Any, ...]) -> None:
        """A process has begun a stage, or has come further in it."""
        if self._bars is None:
            return
        if message[0] == "stage":
            _, title, total, done = message
            self._bars.reset(self._lines[name], total=total, completed=done, description=f"  {name}: {title}")
        else:
            self._bars.update(self._lines[name], advance=message[1])

    def ended(self, name: str, end: Ended) -> None:
        """A piece of work is done, or has failed."""
        self._done += 1
        if self._bars is not None:
            self._bars.remove_task(self._lines.pop(name))
            if self._overall is not None:
                self._bars.update(self._overall, completed=self._done)
        left = f"({self._done} of {self._total}, {time.monotonic() - self._begun:.0f} s)"
        if end.failure is None:
            self.say(f"{name}: done in {end.seconds:.0f} s {left}")
        else:
            self.say(f"{name}: failed: {end.failure} {left}", style="yellow")

    def say(self, text: str, *, style: str | None = None) -> None:
        """One line."""
        self.console.print(text, style=style, highlight=False, soft_wrap=True, markup=False)
