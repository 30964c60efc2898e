"""The process that runs math-verify, as its owner sees it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from rlsf.errors import ResourceError

_WORKER = Path(__file__).with_name("math_worker.py")
#: Seconds that the process may take to import its libraries on a busy machine.
_START_LIMIT = 120.0


class MathProcess:
    """A process running ``math_worker.py``. What it does not answer in time, it never answers: it is killed."""

    def __init__(self) -> None:
        """Start the process and wait until it is ready; raises ``ResourceError`` where it does not start."""
        self.timed_out = False
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            # -P: modules beside the script must not shadow the libraries it imports.
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        if self._read(_START_LIMIT) is None:
            self.stop()
            raise ResourceError(f"the math-verify process did not start: `{sys.executable} -P {_WORKER}` shows why")

    @property
    def is_mine(self) -> bool:
        """Whether this process started it; after a fork, its pipes still belong to the parent."""
        return self._owner == os.getpid()

    def ask(self, gold: str, answer: str, symmetric: bool, time_limit: float) -> bool | None:
        """math-verify's verdict, or None where the process ended first: ``timed_out``, or by itself."""
        assert self._process.stdin is not None
        request = {"gold": gold, "answer": answer, "symmetric": symmetric, "time_limit": time_limit}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        reply = self._read(time_limit)
        return None if reply is None else bool(reply["verdict"])

    def stop(self) -> None:
        """End the process, unless it belongs to a parent of this one."""
        if not self.is_mine:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert stream is not None
                stream.close()

    def _read(self, time_limit: float) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        timer = threading.Timer(time_limit, self._kill)
        timer.daemon = True
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        timer.join()  # a timer that went off just now must not kill the process during the next question
        return json.loads(line) if line.endswith("\n") else None

    def _kill(self) -> None:
        self.timed_out = True
        self._process.kill()
