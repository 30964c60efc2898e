"""Checkpoints that are either whole or absent, and the machine's refusals while writing them."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from safetensors import SafetensorError

from rlsf.errors import ResourceError
from rlsf.files import PARTIAL

TRAINER_STATE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-(\d+)")
_OS_ERROR = re.compile(r"os error (\d+)")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of an optimiser step lives."""
    return folder / f"checkpoint-{step}"


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps with a whole checkpoint, ascending."""
    if not folder.is_dir():
        return []
    names = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(int(match[1]) for match, path in names if match and (path / TRAINER_STATE).is_file())


def latest_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint, None where there is none."""
    steps = checkpoint_steps(folder)
    return checkpoint_path(folder, steps[-1]) if steps else None


def staging_folder(folder: Path) -> Path:
    """Where checkpoints are written before they take their name."""
    return folder / f".checkpoints{PARTIAL}-0"


@contextlib.contextmanager
def staged_checkpoint(folder: Path, step: int) -> Iterator[Path]:
    """A folder in which ``checkpoint-<step>`` is written; it takes its place in one rename if the block succeeds.

    Raises ``ResourceError`` where the machine has no room for it; earlier checkpoints stay as they are.
    """
    staging = staging_folder(folder)
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with out_of_room(folder):
            staging.mkdir(parents=True)
            yield staging
            written, final = checkpoint_path(staging, step), checkpoint_path(folder, step)
            _flush(written)
            if final.exists():
                final.rename(staging / "replaced")
            written.rename(final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Bring every file to the disk, so that the rename cannot overtake its content when the power fails."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def prune_checkpoints(folder: Path, *, keep: int, protected: Collection[int]) -> None:
    """Delete all but the last ``keep`` checkpoints and those of the ``protected`` steps."""
    for step in checkpoint_steps(folder)[:-keep]:
        if step not in protected:
            # Out of the way first: half a deletion would look like a checkpoint without its weights.
            leaving = folder / f".checkpoint-{step}{PARTIAL}-0"
            checkpoint_path(folder, step).rename(leaving)
            shutil.rmtree(leaving)


@contextlib.contextmanager
def out_of_room(folder: Path) -> Iterator[None]:
    """Full disks and file-size limits as ``ResourceError``, whichever library met them first."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_out_of_room(error):
            raise
        raise ResourceError(
            f"no room to write a checkpoint in {folder}: free some space and continue with --resume; the last"
            " checkpoint is intact"
        ) from error


def _is_out_of_room(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    if isinstance(error, SafetensorError):
        number = _OS_ERROR.search(str(error))
        return bool(number) and int(number[1]) in _NO_ROOM
    # torch.save reports any failed write by the name of its archive writer alone.
    return "inline_container" in str(error) or "PytorchStreamWriter" in str(error)
