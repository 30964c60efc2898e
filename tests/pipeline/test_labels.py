"""Gold answers of the prompts: read where a reward looks at them, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlsf.errors import InputError
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.online import training_rows
from rlsf.pipeline.preflight import preflight
from rlsf.recipes import Recipe

Build = Callable[..., Recipe]
SIZES = ("online.prompts_per_step=2", "online.num_generations=2")
SURE, RIGHT = "online.rewards.self_certainty.weight=1", "online.rewards.correctness.weight=1"


def run_of(recipe: Recipe, tmp_path: Path) -> Run:
    return Run(recipe, RunFolder(tmp_path / "run"))


def test_labels_are_read_by_recipes_that_learn_from_them(
    tmp_path: Path, small_recipe: Build, demo_data: tuple[Path, Path]
) -> None:
    path = f"prompts.path={demo_data[1]}"
    gold = [json.loads(line)["answer"] for line in demo_data[1].read_text().splitlines()]
    learned = run_of(small_recipe(path, RIGHT, *SIZES), tmp_path)
    assert [prompt.gold for prompt in learned.prompts] == gold
    assert [row["answer"] for row in training_rows(learned, learned.prompts)] == gold
    free = run_of(small_recipe(path, SURE, *SIZES), tmp_path)
    assert {prompt.gold for prompt in free.prompts} == {None}
    assert all("answer" not in row for row in training_rows(free, free.prompts))


def test_malformed_labels_stop_only_those_who_learn_from_them(
    tmp_path: Path, small_recipe: Build, demo_data: tuple[Path, Path]
) -> None:
    rows = [json.loads(line) for line in demo_data[1].read_text().splitlines()]
    rows[4]["answer"] = {"not": "an answer"}
    path = tmp_path / "malformed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    preflight(run_of(small_recipe(f"prompts.path={path}", SURE, *SIZES), tmp_path))
    both = ("online.rewards.brier_calibration.weight=0.5", RIGHT)
    message = (
        r"^recipe rlsf-trace learns from gold answers \(online\.rewards\.correctness and"
        r" online\.rewards\.brier_calibration\): .*malformed\.jsonl:5: 'answer' is not text: name a field inside it"
    )
    with pytest.raises(InputError, match=message):
        preflight(run_of(small_recipe(f"prompts.path={path}", *both, *SIZES), tmp_path))
    assert not (tmp_path / "run").exists()


def test_measuring_a_supervised_recipe_needs_no_prompts(tmp_path: Path, small_recipe: Build) -> None:
    preflight(run_of(small_recipe("prompts.path=null", RIGHT, *SIZES), tmp_path), learns=False)
