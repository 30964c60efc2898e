"""Checkpoints are whole or absent, whatever interrupts their writing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlsf.errors import ResourceError
from rlsf.files import remove_partials
from rlsf.training.checkpoints import (
    TRAINER_STATE,
    checkpoint_path,
    checkpoint_steps,
    latest_checkpoint,
    out_of_room,
    prune_checkpoints,
    staged_checkpoint,
)


def write(folder: Path, step: int, content: str = "{}") -> None:
    with staged_checkpoint(folder, step) as staging:
        checkpoint = checkpoint_path(staging, step)
        checkpoint.mkdir()
        (checkpoint / TRAINER_STATE).write_text(content)


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    for step in (100, 20, 3):
        write(tmp_path, step)
    assert checkpoint_steps(tmp_path) == [3, 20, 100]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-100"


def test_no_folder_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint_steps(tmp_path / "absent") == []
    assert latest_checkpoint(tmp_path) is None


def test_half_written_checkpoints_are_invisible(tmp_path: Path) -> None:
    write(tmp_path, 5)
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-15").write_text("a file")
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-5"


def test_failure_while_writing_leaves_the_earlier_one(tmp_path: Path) -> None:
    write(tmp_path, 5, "old")
    with pytest.raises(KeyError), staged_checkpoint(tmp_path, 5) as staging:
        (staging / "checkpoint-5").mkdir()
        raise KeyError("interrupted")
    assert (tmp_path / "checkpoint-5" / TRAINER_STATE).read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


def test_a_step_saved_again_replaces_the_first(tmp_path: Path) -> None:
    write(tmp_path, 5, "old")
    write(tmp_path, 5, "new")
    assert (tmp_path / "checkpoint-5" / TRAINER_STATE).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


def test_pruning_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    for step in (0, 10, 20, 30, 40):
        write(tmp_path, step)
    prune_checkpoints(tmp_path, keep=2, protected={10})
    assert checkpoint_steps(tmp_path) == [10, 30, 40]
    prune_checkpoints(tmp_path, keep=1, protected=())
    assert checkpoint_steps(tmp_path) == [40]


def test_an_interrupted_deletion_leaves_no_half_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (10, 20):
        write(tmp_path, step)

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlsf.training.checkpoints.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune_checkpoints(tmp_path, keep=1, protected=())
    monkeypatch.undo()
    assert checkpoint_steps(tmp_path) == [20]
    remove_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-20"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_resource_error(tmp_path: Path, number: int) -> None:
    with pytest.raises(ResourceError, match="free some space and continue with --resume"), out_of_room(tmp_path):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), RuntimeError("shapes differ"), KeyError("x")])
def test_other_errors_pass(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, out_of_room(tmp_path):
        raise error
    assert caught.value is error


# A file-size limit makes each library fail in the middle of a real write, as a full disk does.
LIMITED = """
import resource, sys
from pathlib import Path
import safetensors.torch, torch
from rlsf.errors import ResourceError
from rlsf.files import remove_partials
from rlsf.training.checkpoints import out_of_room

folder, writer = Path(sys.argv[1]), sys.argv[2]
tensors = {"weight": torch.zeros(100_000)}
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with out_of_room(folder):
        if writer == "safetensors":
            safetensors.torch.save_file(tensors, folder / "model.safetensors")
        elif writer == "torch":
            torch.save(tensors, folder / "optimizer.pt")
        else:
            (folder / "state.json").write_text("x" * 5000)
except ResourceError:
    sys.exit(7)
"""


@pytest.mark.parametrize("writer", ["safetensors", "torch", "python"])
def test_every_library_that_runs_out_of_room(tmp_path: Path, writer: str) -> None:
    process = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path), writer], timeout=120)
    assert process.returncode == 7
