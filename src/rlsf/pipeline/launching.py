"""Training in several processes: the command that starts them, what they say, and what came of it.

The run itself is one process. It samples, ranks and measures, and for each training starts a launcher (``accelerate
launch``, ``torchrun`` or any command that ends in one) whose processes only train: ``rlsf.pipeline.training_process``.
Nobody waits for hours at a barrier, and a run needs no launcher to be resumed, inspected or measured.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from rlsf import errors
from rlsf.errors import InputError, ResourceError, RlsfError
from rlsf.files import read_json
from rlsf.pipeline.context import Run
from rlsf.pipeline.piped_progress import Listener

if TYPE_CHECKING:
    from rlsf.training.finish import TrainingResult

#: The training of a stage: of a run, in a round. A function of a module, known by its name; it reads what it needs
#: from the run folder, and shows its progress as a stage does.
Training = Callable[[Run, int], "TrainingResult"]
#: What the processes leave in the folder of a training's checkpoints for the run that started them.
RESULT, LOG, FAILURE = "result.json", "launch.log", "failure-{rank}.json"
MODULE = "rlsf.pipeline.training_process"
#: What torchrun takes to end its processes, at the most.
_SECONDS_TO_END = 40


@dataclass(frozen=True, slots=True)
class Launcher:
    """A command that starts the processes of a training; ``-m MODULE ARGUMENTS`` is put after it."""

    command: tuple[str, ...]
    cuts_models: bool = False
    """Whether it is known to train by FSDP or DeepSpeed."""
    processes: int | None = None
    """How many it starts, where that is known."""
    zero_stage: int | None = None
    """DeepSpeed's, where that is known."""

    def line(self, run: Run, training: Training, round_: int, folder: Path) -> tuple[str, ...]:
        """The whole command line."""
        name = f"{training.__module__}:{training.__name__}"
        return (*self.command, "-m", MODULE, str(run.folder.path), name, str(round_), str(folder))


def trained(run: Run, training: Training, round_: int, folder: Path) -> TrainingResult:
    """Train here, or in the processes that the command line asks for; ``folder`` is that of the checkpoints.

    Raises what the training raises, wherever it runs, and ``ResourceError`` for processes that end in another way.
    """
    if run.launcher is None:
        return training(run, round_)
    run.before_training()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)
    for path in folder.glob(FAILURE.format(rank="*")):
        path.unlink()
    command = run.launcher.line(run, training, round_, folder)
    run.progress.say(f"launch: {shlex.join(_shown(command))}")
    with (folder / LOG).open("w", encoding="utf-8") as log:
        code = _wait_for(_started(command, run, log), log, Listener(run.progress))
    if code:
        raise _failure(folder, code)
    return _result(folder)


def _shown(command: tuple[str, ...]) -> tuple[str, ...]:
    """As a user would type it, in the environment of this process."""
    as_module = (sys.executable, "-m", "accelerate.commands.launch")
    return ("accelerate", "launch", *command[3:]) if command[:3] == as_module else command


def _started(command: tuple[str, ...], run: Run, log: IO[str]) -> subprocess.Popen[str]:
    """The launcher, in a session of its own, so that Ctrl-C comes to it from us alone.

    It holds the lock of the run folder with us, and the processes end when their standard input does: if this process
    is killed, they end as well, and until they have, nobody else writes to the folder.
    """
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            pass_fds=run.folder.lock_handles,
        )
    except OSError as error:
        raise InputError(f"cannot launch {command[0]} ({error.strerror}): look at --launch") from error


def _wait_for(launcher: subprocess.Popen[str], log: IO[str], listener: Listener) -> int:
    """Show what the first process tells, keep everything else; the launcher is over when this returns or raises."""
    assert launcher.stdout is not None
    try:
        for line in launcher.stdout:
            if not listener.hear(line):
                log.write(line)
                log.flush()
        return launcher.wait()
    finally:
        _end(launcher)


def _end(launcher: subprocess.Popen[str]) -> None:
    """Stop the launcher, which stops its processes."""
    if launcher.poll() is None:
        launcher.terminate()
        try:
            launcher.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()
    for stream in (launcher.stdin, launcher.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


def _failure(folder: Path, code: int) -> RlsfError:
    """What a process said of its end; one that says nothing ended because another one did, or is a bug."""
    for path in sorted(folder.glob(FAILURE.format(rank="*"))):
        told = read_json(path)
        return getattr(errors, told["kind"])(told["message"])
    return ResourceError(f"the training processes ended with code {code}: {folder / LOG} says why")


def _result(folder: Path) -> TrainingResult:
    from rlsf.training.finish import TrainingResult

    content = read_json(folder / RESULT)
    return TrainingResult(**{**content, "probes": tuple(content["probes"])})
