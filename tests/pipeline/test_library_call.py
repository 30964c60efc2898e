"""``rlsf.run``: the same run as the command's, by one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_files import rows, weights

import rlsf
from rlsf.cli.app import execute
from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError
from rlsf.files import read_json

SETTINGS: dict[str, Any] = {
    "sampling": {"branches": 4, "max_new_tokens": 48, "workers": 1},
    "ranking": {"threshold": 0.0},
    "training": {"max_steps": 2, "batch_size": 4, "learning_rate": 1e-4, "selection": {"prompts": 4}},
    "evaluation": {"bootstrap": 100},
    "seed": 3,
}
#: All but the reference of the pairs that no step reads, which are missing (NaN) in both.
TABLES = ("traces/**/*.parquet", "preferences/**/*.parquet", "evaluation/**/*.parquet")
DOTTED = (
    *("--sampling.branches=4", "--sampling.max_new_tokens=48", "--sampling.workers=1", "--ranking.threshold=0.0"),
    *("--training.max_steps=2", "--training.batch_size=4", "--training.learning_rate=1e-4", "--seed=3"),
    *("--training.selection.prompts=4", "--evaluation.bootstrap=100"),
)


def test_a_call_is_the_command(demo_data: tuple[Path, Path], tmp_path: Path) -> None:
    prompts, test = demo_data
    called, commanded = tmp_path / "called", tmp_path / "commanded"
    said = {"model": MODEL_DIR, "prompts": prompts, "eval_data": test, "output": called}
    summary = rlsf.run("rlsf-trace", **said, **SETTINGS)
    sources = ("--model", str(MODEL_DIR), "--prompts", str(prompts), "--eval-data", str(test))
    assert execute(["run", "--recipe", "rlsf-trace", *sources, "--output", str(commanded), *DOTTED]) == 0

    assert summary == read_json(commanded / "evaluation" / "summary.json")
    assert summary["after"]["greedy"]["n"] == 16
    assert (called / "recipe.yaml").read_text() == (commanded / "recipe.yaml").read_text()
    assert all(rows(called, tables) == rows(commanded, tables) for tables in TABLES)
    assert weights(called) == weights(commanded)

    with pytest.raises(InputError, match="called exists: choose another --output, or continue"):
        rlsf.run("rlsf-trace", **said, **SETTINGS)
    policy = called / "policy" / "model.safetensors"
    written = policy.stat().st_mtime_ns
    assert rlsf.run("rlsf-trace", **said, **SETTINGS, resume=True) == summary
    assert policy.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling": {"branchs": 4}}, r"unknown key 'sampling.branchs' \(did you mean 'branches'"),
        ({"smapling": {"branches": 4}}, r"unknown key 'smapling' \(did you mean 'sampling'"),
        ({"training": 3}, "training=3: set the keys in it"),
        ({"recipe": "rslf"}, "did you mean 'rlsf'"),
        ({"prompts": "no-such-file.jsonl"}, "no such file: no-such-file.jsonl"),
        ({"config": Path("no-such.yaml")}, "no such recipe file: no-such.yaml"),
    ],
)
def test_mistakes_are_met_before_the_folder_is_taken(
    settings: dict[str, Any], message: str, demo_data: tuple[Path, Path], tmp_path: Path
) -> None:
    said = {"model": MODEL_DIR, "prompts": demo_data[0], "output": tmp_path / "run", **settings}
    with pytest.raises(InputError, match=message):
        rlsf.run(**said)
    assert not (tmp_path / "run").exists()


def test_a_recipe_file_and_settings_over_it(demo_data: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"recipe: rlsf-trace\nseed: 7\nsampling: {{branches: 3}}\nmodel: {{path: {MODEL_DIR}}}\n")
    folder = tmp_path / "run"
    shorter = {**SETTINGS, "sampling": {"max_new_tokens": 40, "workers": 1}}
    assert rlsf.run(config=config, prompts=demo_data[0], output=folder, **shorter) is None
    kept = (folder / "recipe.yaml").read_text()
    assert "recipe: rlsf-trace\n" in kept
    assert "seed: 3\n" in kept
    assert "branches: 3\n" in kept
    assert (folder / "policy" / "model.safetensors").exists()
