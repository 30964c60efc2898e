"""kill -9 in the middle of every stage, then --resume: the result is that of a run that was never killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from killed_run import milestones
from run_files import events, rows, weights

from rlsf.pipeline.context import Run
from rlsf.pipeline.run import run_all
from rlsf.recipes import Recipe, to_yaml

SCRIPT = Path(__file__).with_name("killed_run.py")
#: Where the work of each stage can be seen: a child must have been killed after at least one of them.
OF_PREFERENCES = (
    "evaluation/before/",
    "traces/round-1/",
    "preferences/round-1/",
    "checkpoints/round-1/",
    "traces/round-2/",
    "preferences/round-2/",
    "checkpoints/round-2/",
    "evaluation/after/",
)
OF_ONLINE = (
    "checkpoints/warm-up/traces/",
    "checkpoints/warm-up/",
    "evaluation/before/",
    "traces/round-1/",
    "checkpoints/round-1/checkpoint",
    "evaluation/after/",
)
#: Models to compare. Earlier checkpoints may be left over: a run killed after its last one no longer deletes them.
MODELS_OF_PREFERENCES = (
    "policy",
    "checkpoints/round-1/policy",
    "checkpoints/round-1/checkpoint-6",
    "checkpoints/round-2/checkpoint-6",
)
MODELS_OF_ONLINE = ("policy", "checkpoints/warm-up/policy", "checkpoints/round-1/checkpoint-4")


def contents(folder: Path, models: tuple[str, ...]) -> dict[str, object]:
    """All rows, weights, figures and pages of a run; what depends on the clock is left out."""
    report = (folder / "report.html").read_text()
    return {
        **rows(folder),
        **{model: weights(folder, model) for model in models},
        "card": (folder / "policy" / "README.md").read_text(),
        "summary": json.loads((folder / "evaluation" / "summary.json").read_text()),
        "events": events(folder),
        "report": re.sub(r"<summary>Time taken by each stage.*?</details>", "", report, flags=re.DOTALL),
    }


def killed_and_whole_agree(
    folder: Path, recipe: Recipe, open_run: Callable[..., Run], stages: tuple[str, ...], models: tuple[str, ...]
) -> None:
    """Run ``recipe`` once in peace and once with kills, in every one of ``stages``; compare what is left."""
    folders = [folder / name / "run" for name in ("whole", "killed")]
    with open_run(recipe, folders[0]) as run:
        run_all(run)
    (folder / "recipe.yaml").write_text(to_yaml(recipe))
    process = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder / "recipe.yaml"), str(folders[1]), "0"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    killed = json.loads(process.stdout.splitlines()[-1])
    assert [stage for stage in stages if not any(milestone.startswith(stage) for milestone in killed)] == []
    assert len(killed) > len(milestones(recipe)) / 2, killed
    whole, resumed = (contents(place, models) for place in folders)
    assert whole.keys() == resumed.keys()
    for name in whole:
        assert whole[name] == resumed[name], f"{name} differs"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and process groups")
def test_a_run_killed_in_every_stage_of_two_rounds_ends_like_one_never_killed(
    tmp_path: Path, small_recipe: Callable[..., Recipe], open_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # outside any repository: a commit made meanwhile would be a difference
    recipe = small_recipe("training.rounds=2")
    killed_and_whole_agree(tmp_path, recipe, open_run, OF_PREFERENCES, MODELS_OF_PREFERENCES)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and process groups")
def test_an_online_run_killed_in_every_stage_ends_like_one_never_killed(
    tmp_path: Path, small_online: Callable[..., Recipe], open_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = small_online("online.warm_up.steps=20", "sampling.branches=4", name="rise-verify")
    killed_and_whole_agree(tmp_path, recipe, open_run, OF_ONLINE, MODELS_OF_ONLINE)
