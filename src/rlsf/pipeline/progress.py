"""Progress that suits where it is shown: a live bar on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rlsf.invisible import safe

Advance = Callable[[int], None]


class ProgressDisplay:
    """Announces stages and shows how far each has come."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    def say(self, text: str, *, style: str | None = None) -> None:
        """One line."""
        self.console.print(safe(text), style=style, highlight=False, soft_wrap=True, markup=False)

    def warn(self, text: str) -> None:
        """One line that should not be overlooked."""
        self.say(f"warning: {text}", style="yellow")

    @contextlib.contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        """A stage of ``total`` units, ``done`` of them finished earlier; yields a function that adds units."""
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True) as bars:
                task = bars.add_task(title, total=total, completed=done)
                started = time.monotonic()
                yield lambda units: bars.update(task, advance=units)
            self.say(f"{title}: {total} in {time.monotonic() - started:.1f} s")
        else:
            yield from self._plain(title, total, done)

    def _plain(self, title: str, total: int, done: int) -> Iterator[Advance]:
        started = last = time.monotonic()
        self.say(f"{title}: {total}" + (f", {done} done before" if done else ""))
        count = done

        def advance(units: int) -> None:
            nonlocal count, last
            count += units
            if time.monotonic() - last > 10:
                last = time.monotonic()
                self.say(f"{title}: {count}/{total} after {last - started:.0f} s")

        yield advance
        self.say(f"{title}: done in {time.monotonic() - started:.1f} s")
