"""The run folder: never overwritten silently, one writer, resumed only under the same recipe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rlsf.errors import InputError, ResourceError
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import Manifest, finished, read_manifest, require
from rlsf.pipeline.metrics import MetricsLog
from rlsf.recipes import parse_overrides, resolve


def open_folder(path: Path, *overrides: str, resume: bool = False) -> RunFolder:
    folder = RunFolder(path)
    folder.open(resolve("rlsf", overrides=parse_overrides(overrides)), resume=resume)
    return folder


def worked_in(path: Path) -> Path:
    """A run folder whose run measured something."""
    open_folder(path).close()
    (path / "evaluation").mkdir()
    (path / "evaluation" / "summary.json").write_text("{}\n")
    return path


def test_a_folder_with_results_is_not_overwritten(tmp_path: Path) -> None:
    worked_in(tmp_path / "run")
    with pytest.raises(InputError, match=r"run exists: choose another --output, or continue that run with --resume"):
        open_folder(tmp_path / "run")
    open_folder(tmp_path / "run", resume=True).close()


def test_an_empty_folder_may_be_used_and_a_file_may_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    open_folder(tmp_path / "empty").close()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, not a folder"):
        open_folder(tmp_path / "file")
    for impossible in (tmp_path / "file" / "run", tmp_path / ("n" * 300), Path("/proc/nowhere/run")):
        with pytest.raises(ResourceError, match=r"cannot write .*: choose another --output"):
            open_folder(impossible)


def test_a_run_that_never_worked_may_be_started_anew(tmp_path: Path) -> None:
    open_folder(tmp_path / "run").close()
    open_folder(tmp_path / "run", "seed=3").close()
    open_folder(tmp_path / "run", "seed=4", resume=True).close()
    assert "seed: 4" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_a_run_that_was_refused_may_be_started_with_what_was_asked_for(tmp_path: Path) -> None:
    """Before anything was sampled it knows how long it looked, and nothing else."""
    folder = open_folder(tmp_path / "run", "budget.generated_tokens=9")
    folder.metrics_file.write_text('{"event": "time", "phase": "learning", "learning_seconds": 0.1}\n')
    folder.close()
    open_folder(tmp_path / "run", "budget.generated_tokens=900").close()
    assert not folder.metrics_file.exists()
    assert "generated_tokens: 900" in folder.recipe_file.read_text()


def test_a_recipe_of_the_users_own_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("recipe: rlsf\n")
    with pytest.raises(InputError, match="exists: choose another --output"):
        open_folder(tmp_path)
    assert (tmp_path / "recipe.yaml").read_text() == "recipe: rlsf\n"


def test_resume_under_another_recipe_names_the_keys(tmp_path: Path) -> None:
    worked_in(tmp_path / "run")
    with pytest.raises(InputError, match=r"ranking\.threshold: 0\.9 -> 0\.5; seed: 0 -> 3"):
        open_folder(tmp_path / "run", "ranking.threshold=0.5", "seed=3", resume=True)


def test_of_many_keys_the_recipes_name_comes_first_and_the_rest_are_counted(tmp_path: Path) -> None:
    worked_in(tmp_path / "run")
    shown = r"another recipe \(recipe: 'rlsf' -> 'rlsf-rm'; .*; and \d+ keys more\)"
    with pytest.raises(InputError, match=shown) as told:
        RunFolder(tmp_path / "run").open(resolve("rlsf-rm"), resume=True)
    assert str(told.value).count(" -> ") == 8


def test_how_fast_is_not_what(tmp_path: Path) -> None:
    worked_in(tmp_path / "run")
    open_folder(tmp_path / "run", "sampling.workers=1", "sampling.batch_tokens=999", resume=True).close()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "run")
    code = (
        "from pathlib import Path; from rlsf.pipeline.folder import RunFolder; from rlsf.recipes import resolve;"
        f"RunFolder(Path({str(tmp_path / 'run')!r})).open(resolve('rlsf'), resume=True)"
    )
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert second.returncode != 0
    assert "is in use by process" in second.stderr
    folder.close()
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_killed_run_was_writing_is_removed(tmp_path: Path) -> None:
    open_folder(tmp_path / "run").close()
    (tmp_path / "run" / ".part-00000.parquet.partial-77").write_text("half")
    open_folder(tmp_path / "run", resume=True).close()
    assert not (tmp_path / "run" / ".part-00000.parquet.partial-77").exists()


def test_a_stage_is_done_when_its_manifest_is_there(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    with pytest.raises(InputError, match=r"stage 'rank' is not finished .*: run `rlsf rank` first"):
        require(tmp_path, "rank", "rank")
    inputs = {"signal": "answer_disparity", "ranking": {"threshold": 0.9}}
    manifest = Manifest("rank", inputs, {"pairs": 3})
    manifest.write(tmp_path)
    assert finished(tmp_path, "rank", inputs) == manifest == require(tmp_path, "rank", "rank")
    with pytest.raises(InputError, match=r"ranking\.threshold: 0\.9 -> 0\.8.*delete .* to do the stage 'rank' again"):
        finished(tmp_path, "rank", {**inputs, "ranking": {"threshold": 0.8}})


def test_results_built_on_differ_when_anything_below_differs() -> None:
    base = Manifest("sample", {"seed": 1}, {"traces": 10})
    assert base.digest == Manifest("sample", {"seed": 1}, {"traces": 10}).digest
    assert base.digest != Manifest("sample", {"seed": 2}, {"traces": 10}).digest
    assert base.digest != Manifest("sample", {"seed": 1}, {"traces": 11}).digest


def test_metrics_survive_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.record({"event": "training", "step": 1, "loss": 0.5})
    log.record({"event": "training", "step": 2, "loss": float("nan")})
    with path.open("a") as stream:
        stream.write('{"event": "training", "st')
    log = MetricsLog(path)
    log.record({"event": "training", "step": 2, "loss": 0.25})
    assert log.events() == [
        {"event": "training", "step": 1, "loss": 0.5},
        {"event": "training", "step": 2, "loss": 0.25},
    ]
    assert len(path.read_text().splitlines()) == 3
