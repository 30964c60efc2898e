"""Child processes that would outlive this one are ended when it dies, even by SIGKILL."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable

import psutil

#: Waits until the pipe from its parent closes, and ends what it was told of. A number that another process took over
#: since is not the same process to psutil.
_WATCHER = """
import contextlib, sys, psutil
watched = []
for number in sys.argv[1:]:
    with contextlib.suppress(psutil.NoSuchProcess):
        watched.append(psutil.Process(int(number)))
sys.stdin.buffer.read()
for process in watched:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
"""


class Watcher:
    """A small process that ends others, and their children of now, once this process is gone or ``close`` is called."""

    def __init__(self, processes: Iterable[int]) -> None:
        family: list[int] = []
        for number in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                family += [number, *(child.pid for child in psutil.Process(number).children(recursive=True))]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WATCHER, *map(str, family)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the whole group, and is no end of this process
        )

    def close(self) -> None:
        """End what is watched and is still there, and the watcher."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
