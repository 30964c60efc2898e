"""What is watched ends with the process that started it."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

from rlsf.sampling.watching import Watcher

SLEEPING = "import time; time.sleep(600)"
PARENT = f"""
import subprocess, sys, time
from rlsf.sampling.watching import Watcher

child = subprocess.Popen([sys.executable, "-c", {SLEEPING!r}])
Watcher([child.pid])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_child_does_not_outlive_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        watchers = [each for each in psutil.Process(parent.pid).children() if each != child]
        time.sleep(1.0)  # the watcher looks at what it is told of first
        parent.kill()
    _, alive = psutil.wait_procs([child, *watchers], timeout=20)
    assert alive == []


def test_closing_ends_what_is_left_and_the_watcher() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPING]) as child:
        watcher = Watcher([child.pid, 2**22 + 1])
        watcher.close()
        assert child.wait(timeout=20) == -9
    assert watcher._process.returncode == 0
