"""One of the processes of a training, started by a launcher: python -m rlsf.pipeline.training_process.

usage: training_process FOLDER MODULE:FUNCTION ROUND CHECKPOINTS

All processes train; the first one writes metrics, checkpoints, the policy and the result. The run folder belongs to the
run that started the launcher, which waits.
"""

from __future__ import annotations

import importlib
import os
import stat
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from rlsf.errors import RlsfError
from rlsf.files import write_json
from rlsf.models import resolve_device
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.launching import FAILURE, RESULT, Training
from rlsf.pipeline.metrics import MetricsLog
from rlsf.pipeline.piped_progress import PipedProgress
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import resolve

#: How long the processes wait for the first one, which probes and writes checkpoints.
_PATIENCE = timedelta(hours=6)


class _Silent(MetricsLog):
    """The metrics of all but the first process."""

    def __init__(self) -> None:
        pass

    def record(self, event: Mapping[str, Any]) -> None:
        """Nothing."""


class TrainingProcess(Run):
    """The run as one of its training processes sees it: it holds no lock, and only the first one writes."""

    def __init__(self, recipe: Recipe, folder: RunFolder, rank: int) -> None:
        self.first = rank == 0
        super().__init__(recipe, folder, PipedProgress(heard=self.first))

    @cached_property
    def metrics(self) -> MetricsLog:
        return MetricsLog(self.folder.metrics_file) if self.first else _Silent()


def main(folder: Path, name: str, round_: int, checkpoints: Path) -> int:
    """Train; returns the exit code."""
    end_with_the_run()
    rank = int(os.environ.get("RANK", "0"))
    try:
        run = TrainingProcess(resolve(None, RunFolder(folder).recipe_file, {}), RunFolder(folder), rank)
        join_the_others(run)
        result = named(name)(run, round_)
        leave_the_others()
    except RlsfError as error:
        told = {"kind": type(error).__name__, "message": str(error)}
        write_json(checkpoints / FAILURE.format(rank=rank), told)
        return 1
    if run.first:
        write_json(checkpoints / RESULT, asdict(result))
    return 0


def named(name: str) -> Training:
    """The training of that name."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def end_with_the_run() -> None:
    """Die when the run that started us does: its end of our standard input is closed then."""
    handle = sys.stdin.fileno()
    if not stat.S_ISFIFO(os.fstat(handle).st_mode):
        return  # a launcher that hands it on to nobody

    def watch() -> None:
        # Not by a stream of Python's, whose lock would keep the interpreter from ending.
        while os.read(handle, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def join_the_others(run: Run) -> None:
    """Make the group of processes, each on its own device, before a model is loaded."""
    from accelerate import PartialState

    PartialState(cpu=resolve_device(run.recipe.model.device).type == "cpu", timeout=_PATIENCE)


def leave_the_others() -> None:
    """Take the group of processes apart, once all have come here."""
    from accelerate import PartialState

    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
