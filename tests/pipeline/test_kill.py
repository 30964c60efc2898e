"""kill -9 in the middle of every stage, then --resume: the result is that of a run that was never killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from killed_run import MILESTONES

from rlsf.pipeline.context import Run
from rlsf.pipeline.metrics import MetricsLog
from rlsf.pipeline.run import run_all
from rlsf.recipes import Recipe, to_yaml

SCRIPT = Path(__file__).with_name("killed_run.py")
#: Where the work of each stage can be seen: a child must have been killed after at least one of them.
STAGES = (
    "evaluation/before/",
    "traces/round-1/",
    "preferences/round-1/",
    "checkpoints/round-1/",
    "traces/round-2/",
    "preferences/round-2/",
    "checkpoints/round-2/",
    "evaluation/after/",
)


def contents(folder: Path) -> dict[str, object]:
    """All rows, weights, figures and pages of a run; what depends on the clock is left out."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*.parquet")):
        found[str(path.relative_to(folder))] = pq.read_table(path).to_pylist()
    # Earlier checkpoints may be left over: a run killed after its last one was written no longer deletes them.
    for pattern in ("**/policy/model.safetensors", "checkpoints/*/checkpoint-6/model.safetensors", "policy/README.md"):
        for path in sorted(folder.glob(pattern)):
            found[str(path.relative_to(folder))] = path.read_bytes()
    assert len([name for name in found if name.endswith("model.safetensors")]) == 4
    found["summary"] = json.loads((folder / "evaluation" / "summary.json").read_text())
    events = MetricsLog(folder / "metrics.jsonl").events()
    found["events"] = [{key: value for key, value in event.items() if key != "seconds"} for event in events]
    report = (folder / "report.html").read_text()
    found["report"] = re.sub(r"<summary>Time taken by each stage.*?</details>", "", report, flags=re.DOTALL)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and process groups")
def test_a_run_killed_in_every_stage_of_two_rounds_ends_like_one_never_killed(
    tmp_path: Path, small_recipe: Callable[..., Recipe], open_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # outside any repository: a commit made meanwhile would be a difference
    recipe = small_recipe("training.rounds=2")
    folders = [tmp_path / name / "run" for name in ("whole", "killed")]
    with open_run(recipe, folders[0]) as run:
        run_all(run)
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    process = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "recipe.yaml"), str(folders[1]), "0"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    killed = json.loads(process.stdout.splitlines()[-1])
    assert [stage for stage in STAGES if not any(milestone.startswith(stage) for milestone in killed)] == []
    assert len(killed) > len(MILESTONES) / 2, killed
    whole, resumed = map(contents, folders)
    assert whole.keys() == resumed.keys()
    for name in whole:
        assert whole[name] == resumed[name], f"{name} differs"
