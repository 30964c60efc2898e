"""A process that works for another one: tasks in, answers out, until the pipe or the parent closes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any

from rlsf.errors import ResourceError, RlsfError

#: A worker finds this in its pipe when there is no more to do.
_NO_MORE = None


#: What workers import before anything else; it starts no threads.
LIBRARIES = ("rlsf.sampling.transformers_engine", "rlsf.models.loading", "transformers.models.auto.modeling_auto")


def process_context(libraries: Sequence[str] = LIBRARIES) -> SpawnContext | ForkServerContext:
    """How processes are started: forked from one that has loaded the ``libraries`` and done nothing else.

    They import nothing again, and share the memory of what was imported; whoever starts the first process says what
    that is. Where there is an accelerator, whose drivers do not survive a fork, or no fork, each starts from nothing.
    """
    accelerated = any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))
    if accelerated or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(libraries))
    return context


def load_libraries_ahead(libraries: Sequence[str] = LIBRARIES) -> None:
    """Let the process that others are forked from load its libraries, while this one does something else."""
    if process_context(libraries).get_start_method() == "forkserver":
        forkserver.ensure_running()


class Worker:
    """One process and the pipe to it."""

    process: BaseProcess
    connection: Connection

    def __init__(self, number: int, threads: int) -> None:
        context = process_context()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, threads), name=f"rlsf-sampling-{number}", daemon=True
        )
        self.process.start()
        theirs.close()

    def send(self, function: Callable[[Any], Any], shard: Any) -> None:
        """Give the worker a shard. One that died meanwhile is noticed when its answer is waited for."""
        with contextlib.suppress(ConnectionError):
            self.connection.send((function, shard))

    def receive(self, number: int) -> tuple[int, Any]:
        """The answer to shard ``number``; what the worker raised is raised here."""
        try:
            succeeded, answer = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise ResourceError(_obituary(self.process)) from None
        if not succeeded:
            raise answer
        return number, answer

    def end(self) -> None:
        """End the process, politely where it is idle, and wait for it."""
        with contextlib.suppress(ConnectionError):
            self.connection.send(_NO_MORE)
        self.connection.close()
        self.process.terminate()
        self.process.join()
        self.process.close()


def _obituary(process: BaseProcess) -> str:
    code = process.exitcode or 0
    cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    remedy = "lower sampling.workers or sampling.batch_tokens and resume"
    return f"the process {process.name} {cause}{hint}: {remedy}"


def _serve(connection: Connection, threads: int) -> None:
    """A worker's life: shards in, answers out, until the pipe or the parent closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=end_with_parent, daemon=True).start()
    prepare_process(threads)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        if task is _NO_MORE:
            return
        connection.send(answered(*task))


def prepare_process(threads: int) -> None:
    """Make this process one of several that compute with ``threads`` threads each."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch
    from tqdm import tqdm

    torch.set_num_threads(threads)
    # Its own lock is a semaphore of the system, which a worker that is ended would leave behind with a warning.
    tqdm.set_lock(threading.RLock())


def answered(function: Callable[[Any], Any], shard: Any) -> tuple[bool, Any]:
    """(whether it succeeded, ``function(shard)`` or the error), as a worker sends it back."""
    try:
        return True, function(shard)
    except RlsfError as error:
        return False, error
    except Exception as error:  # noqa: BLE001 - the process boundary: whatever it is belongs to the parent
        error.add_note(f"in a sampling process:\n{traceback.format_exc()}")
        return False, error


def end_with_parent() -> None:
    """Wait for the parent, and end this process with it, however it ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
