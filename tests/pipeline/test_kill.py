"""kill -9 in the middle of every stage, then --resume: the result is that of a run that was never killed."""

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

import pyarrow.parquet as pq
import pytest

from rlsf.pipeline.context import Run
from rlsf.pipeline.run import run_all
from rlsf.recipes import Recipe, to_yaml

#: What a stage writes while it is under way; the process is killed a moment after each appears.
MILESTONES = (
    "evaluation/before/traces/part-*.parquet",
    "evaluation/before/outcomes.parquet",
    "traces/round-1/part-*.parquet",
    "preferences/round-1/*.parquet",
    "checkpoints/round-1/*",
    "checkpoints/round-1/checkpoint-4",
    "policy",
    "evaluation/after/traces/part-*.parquet",
    "evaluation/summary.json",
)


def start(recipe_file: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from rlsf.cli import main; main()", "run", "--config", str(recipe_file)]
    command += ["--output", str(folder), "--resume"]
    with (folder.parent / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def kill_at(process: subprocess.Popen[bytes], folder: Path, pattern: str, delay: float) -> bool:
    """Whether the process could be killed ``delay`` seconds after something matched ``pattern``."""
    while process.poll() is None:
        if any(folder.glob(pattern)):
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return process.returncode == -signal.SIGKILL
        time.sleep(0.002)
    return False


def contents(folder: Path) -> dict[str, object]:
    """All rows, weights and figures of a run; what depends on the clock or the machine is left out."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*.parquet")):
        found[str(path.relative_to(folder))] = pq.read_table(path).to_pylist()
    found["policy"] = (folder / "policy" / "model.safetensors").read_bytes()
    found["summary"] = json.loads((folder / "evaluation" / "summary.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_run_killed_in_every_stage_ends_like_one_never_killed(
    tmp_path: Path, small_recipe: Callable[..., Recipe], open_run: Callable[..., Run]
) -> None:
    recipe = small_recipe()
    with open_run(recipe, tmp_path / "whole") as run:
        run_all(run)
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    delays = random.Random(0)
    killed = 0
    for milestone in MILESTONES:
        process = start(tmp_path / "recipe.yaml", tmp_path / "killed")
        killed += kill_at(process, tmp_path / "killed", milestone, delays.uniform(0, 0.05))
    last = start(tmp_path / "recipe.yaml", tmp_path / "killed")
    assert last.wait(timeout=120) == 0, (tmp_path / "log.txt").read_text()
    assert killed >= len(MILESTONES) - 2, (tmp_path / "log.txt").read_text()
    whole, resumed = contents(tmp_path / "whole"), contents(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    for name in whole:
        assert whole[name] == resumed[name], f"{name} differs"
