"""Online trainings in one process or, under torchrun, in several: what each of them is told is left beside its policy.

usage: divided_training.py FOLDER CASES

CASES is JSON: by name, what the training is given besides the defaults of ``online_runs``. One with ``resumed``, the
name of an earlier case and a step, goes on from what that case had saved by that step.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

RANK = os.environ.get("RANK", "0")


def train_cases(folder: Path, cases: dict[str, dict[str, Any]]) -> None:
    from online_runs import Events, train

    for name, options in cases.items():
        events = Events()
        resumed = options.pop("resumed", None)
        if resumed is not None:
            leave_until(folder / resumed["case"], folder / name, resumed["step"])
        probes: list[int] = []
        result = train(folder / name, record=events, probed=probes, resume=True, **options)
        report = {
            "steps": result.steps,
            "best_step": result.best_step,
            "reason": result.reason,
            "probed": probes,
            "probes": result.probes,
            "events": list(events.told.values()),
        }
        (folder / name / f"process-{RANK}.json").write_text(json.dumps(report))


def leave_until(source: Path, folder: Path, step: int) -> None:
    """The first process copies the checkpoints of a training up to a step, the others wait."""
    import torch

    if RANK == "0":
        for path in (source / "checkpoints").glob("checkpoint-*"):
            if int(path.name.split("-")[1]) <= step:
                shutil.copytree(path, folder / "checkpoints" / path.name)
    torch.distributed.barrier()


def divided(folder: Path, cases: dict[str, dict[str, Any]], processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Train the cases one after the other in so many processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.run(
        [*torchrun, __file__, str(folder), json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def reports(folder: Path, processes: int = 1) -> list[dict[str, Any]]:
    """What each process of a case wrote."""
    return [json.loads((folder / f"process-{rank}.json").read_text()) for rank in range(processes)]


if __name__ == "__main__":
    train_cases(Path(sys.argv[1]), json.loads(sys.argv[2]))
