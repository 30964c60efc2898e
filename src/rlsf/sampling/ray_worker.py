"""What runs in a process of a Ray cluster: one engine, and the shards that are sent to it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlsf
from rlsf.errors import InputError
from rlsf.sampling.worker import answered, prepare_process

#: Seconds in which a network file system must show a file that another machine has just written.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a worker works: as the process that sends the shards does, on files that both see."""

    folder: str
    """The run folder, as an absolute path."""
    token: str
    """Name of a file in it that only the sender could have written."""
    current: str
    """Folder from which relative paths count."""
    threads: int
    version: str = rlsf.__version__


class RayWorker:
    """An actor. What it returns is (whether it succeeded, the result or the error), so that errors stay themselves."""

    def join(self, workplace: Workplace) -> tuple[bool, Any]:
        """Get ready to work; the answer is the name of this machine."""
        return answered(_join, workplace)

    def work(self, function: Callable[[Any], Any], shard: Any) -> tuple[bool, Any]:
        """``function(shard)``."""
        return answered(function, shard)


def _join(workplace: Workplace) -> str:
    machine = socket.gethostname()
    if workplace.version != rlsf.__version__:
        raise InputError(
            f"{machine} has rlsf {rlsf.__version__}, and this machine {workplace.version}: install the same one on all"
        )
    with contextlib.suppress(OSError):  # relative paths that need it will be missed by name
        os.chdir(workplace.current)
    if not _appears(Path(workplace.folder) / workplace.token):
        raise InputError(
            f"{machine} does not see the folder {workplace.folder}: choose an --output on a file system that all nodes"
            " of the cluster share"
        )
    prepare_process(workplace.threads)
    return machine


def _appears(path: Path) -> bool:
    until = time.monotonic() + _PATIENCE
    while not path.exists():
        if not path.parent.exists() or time.monotonic() > until:
            return False
        time.sleep(0.2)
        with contextlib.suppress(OSError):
            list(path.parent.iterdir())  # makes a network file system ask its server again
    return True
