"""Trainings in child processes that are killed (SIGKILL) at random moments, until one is let finish."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlsf.training.checkpoints import checkpoint_steps, staging_folder

Train = Callable[[Path], object]


def child(train: Train, folder: Path) -> int:
    """The process id of a child that trains to the end unless something stops it."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            train(folder)
            status = 0
        finally:
            os._exit(status)
    return process


def kill_after_progress(train: Train, folder: Path, moments: random.Random) -> bool:
    """Whether the child was still alive when the signal came, a random moment after its next checkpoint."""
    before = checkpoint_steps(folder / "checkpoints")
    process = child(train, folder)
    while checkpoint_steps(folder / "checkpoints") == before:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    time.sleep(moments.uniform(0.0, 0.05))
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def left_alone_and_killed(train: Train, folder: Path, seed: int, kills: int) -> None:
    """Train once in ``whole`` and, with kills, in ``cut``; prints as JSON how many children were killed, after how many
    of the kills a half-written checkpoint lay around, and the checkpoints that training went on from."""
    moments = random.Random(seed)
    assert os.waitpid(child(train, folder / "whole"), 0)[1] == 0
    report = {"killed": 0, "half_written": 0, "resumed_from": []}
    for _ in range(kills):
        report["killed"] += kill_after_progress(train, folder / "cut", moments)
        report["half_written"] += staging_folder(folder / "cut" / "checkpoints").exists()
        report["resumed_from"] += checkpoint_steps(folder / "cut" / "checkpoints")[-1:]
    assert os.waitpid(child(train, folder / "cut"), 0)[1] == 0
    print(json.dumps(report))


def reported(script: Path, *arguments: object) -> dict[str, Any]:
    """What a script that calls ``left_alone_and_killed`` prints."""
    process = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout.splitlines()[-1])
