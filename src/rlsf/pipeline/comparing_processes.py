"""Several pieces of work at a time, each in a process of its own, which ends with it and with this one.

What one run leaves behind in a process (random states, caches, memory) then never reaches another, and one that dies
takes no other with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rlsf.errors import RlsfError
from rlsf.pipeline.comparing_display import ComparisonDisplay
from rlsf.pipeline.comparing_folder import LOG, Ended
from rlsf.pipeline.comparing_jobs import Job, carry_out
from rlsf.pipeline.progress import Advance, ProgressDisplay
from rlsf.sampling.worker import end_with_parent, prepare_process, process_context

#: The last word of a process, with why it failed or None.
_END = "end"
#: What most runs import in the end.
RUN_LIBRARIES = (
    *("rlsf.pipeline.run", "rlsf.pipeline.comparing_jobs", "rlsf.sampling.transformers_engine"),
    *("rlsf.training.train", "rlsf.training.online"),
)


def work_off(
    jobs: Sequence[Job],
    workers: int,
    threads: int | None,
    display: ComparisonDisplay,
    kept: Callable[[Job], Ended | None],
) -> dict[Path, Ended]:
    """Do all pieces of work, ``workers`` at a time with ``threads`` each (None: as many as it likes), in their order.

    One that borrows waits for its lenders. Those for which ``kept`` knows an end without a failure are not done again.
    An error ends a piece of work, not the others: how each ended is returned by its folder.
    """
    ended = {job.folder: known for job in jobs if (known := kept(job)) is not None and known.failure is None}
    waiting = [job for job in jobs if job.folder not in ended]
    running: dict[Connection, _Process] = {}
    display.begin(len(jobs), len(ended))
    try:
        while waiting or running:
            for job in _startable(waiting, ended, workers - len(running)):
                waiting.remove(job)
                process = _Process(job, threads)
                running[process.connection] = process
                display.started(job.name)
            for connection in wait(list(running)):
                process = running[connection]  # type: ignore[index]  # what waits is what was given
                message = process.receive()
                if message[0] != _END:
                    display.told(process.job.name, message)
                    continue
                process.close()
                del running[process.connection]
                end = Ended(message[1], time.monotonic() - process.started)
                end.write(process.job.folder)
                ended[process.job.folder] = end
                display.ended(process.job.name, end)
    finally:
        for process in running.values():
            process.close()
    return ended


def _startable(waiting: Sequence[Job], ended: dict[Path, Ended], room: int) -> list[Job]:
    """The first pieces of work, at most ``room``, whose lenders have ended, well or not."""
    ready = [job for job in waiting if all(lender in ended for lender in job.lenders)]
    return ready[: max(0, room)]


class _Process:
    """A process at a piece of work, and what it tells."""

    def __init__(self, job: Job, threads: int | None) -> None:
        context = process_context(RUN_LIBRARIES)
        self.job, self.started = job, time.monotonic()
        self.connection, theirs = context.Pipe(duplex=False)
        job.folder.mkdir(parents=True, exist_ok=True)
        # Not a daemon: it may have workers of its own, which end with it.
        self._process = context.Process(target=_live, args=(theirs, job, threads), name=f"rlsf-run-{job.folder.name}")
        self._process.start()
        theirs.close()

    def receive(self) -> tuple[Any, ...]:
        """What it tells next; the end of one that died speaks for it."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            return _END, self._obituary()

    def _obituary(self) -> str:
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return "its process was killed by SIGKILL (out of memory?): lower --workers and go on with --resume"
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"its process {cause}: {self.job.folder / LOG} has its last words"

    def close(self) -> None:
        """End the process and wait for it."""
        self._process.terminate()
        self._process.join()
        self._process.close()
        self.connection.close()


def _live(connection: Connection, job: Job, threads: int | None) -> None:
    """The life of a process: one piece of work, told through ``connection``, with what it prints in a log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=end_with_parent, daemon=True).start()
    _print_into(job.folder / LOG)
    if threads is not None:
        prepare_process(threads)
    failure = None
    try:
        carry_out(job, _TellingProgress(connection), alone=threads == 1)
    except RlsfError as error:
        failure = " ".join(str(error).split())
        print(failure, file=sys.stderr)
    except Exception as error:  # noqa: BLE001 - the process boundary: the comparison goes on without this run
        traceback.print_exc()
        failure = f"{type(error).__name__}: {error} (a bug of rlsf: the traceback is in {job.folder / LOG})"
    connection.send((_END, failure))


def _print_into(log: Path) -> None:
    """Let all that this process and its children print from here on go to the end of a file."""
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), sys.stdout.fileno())
        os.dup2(stream.fileno(), sys.stderr.fileno())


class _TellingProgress(ProgressDisplay):
    """Tells the parent of stages, and prints them into the log as well."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    @contextlib.contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        """A stage, told as it goes on."""
        self._connection.send(("stage", title, total, done))
        with super().stage(title, total, done) as advance:

            def both(units: int) -> None:
                advance(units)
                self._connection.send(("advance", units))

            yield both
