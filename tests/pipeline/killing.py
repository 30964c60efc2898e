"""Child processes that are killed (SIGKILL) a moment after something has appeared on disk."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path


def start(work: Callable[[], object]) -> int:
    """The process id of a child, leader of a group of its own, that runs to the end unless something stops it."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.setsid()
            work()
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    return process


def killed_after(process: int, milestone: Path, delay: float) -> bool:
    """Whether the child was still at work when the signal came, ``delay`` seconds after the milestone appeared."""
    while not milestone.exists():
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    time.sleep(delay)
    os.killpg(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])
