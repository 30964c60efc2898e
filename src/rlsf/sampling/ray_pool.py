"""Workers of a Ray cluster that sample disjoint shards, each with its own copy of the model.

They are plain actors, not those of a Ray Data pipeline, which would recover from lost nodes as well. A pipeline begins
with all that there is to do, in the object store or as a source that the cluster can read again; shards are made up one
by one by this process, from prompts that may be many more than fit into memory. A pipeline starts and ends its actors
with every call, and a run calls for each of its stages, with a model to load each time. And it tries a shard that kills
its workers without end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from rlsf.errors import ResourceError, shortened
from rlsf.files import PARTIAL, writing
from rlsf.models.config import ModelConfig
from rlsf.sampling.pool import let_go_of_engine
from rlsf.sampling.ray_cluster import RayCluster, import_ray
from rlsf.sampling.ray_worker import RayWorker, Workplace

Shard = TypeVar("Shard")
Result = TypeVar("Result")

#: A shard that was lost with so many workers is what ends them.
_MOST_LOSSES = 4
#: So many workers in a row that end before they begin will not be followed by one that begins.
_MOST_FALSE_STARTS = 4
#: Seconds without any worker until the user is told, and until it is given up; a cluster may have to grow first.
_TOLD_AFTER, _GIVEN_UP_AFTER = 30.0, 1800.0


@dataclass(slots=True)
class _Task(Generic[Shard]):
    number: int
    shard: Shard
    losses: int = 0


class RayPool:
    """``workers`` actors, spread over the nodes; ``auto``: as many as there is room for. A context manager.

    A worker that is lost, alone or with its node, is replaced where there is room, and its shard is made again by
    another one: what is written must be whole files, on a file system that all nodes see (``folder`` is looked for by
    each). At most ``workers`` shards are under way or wait in memory.
    """

    def __init__(
        self,
        cluster: RayCluster,
        model: ModelConfig,
        workers: int | Literal["auto"],
        folder: Path,
        warn: Callable[[str], None],
    ) -> None:
        if workers != "auto" and workers < 1:
            raise ValueError(f"workers={workers}: at least one")
        self._cluster, self._model, self._warn = cluster, model, warn
        self._wanted: int | None = None if workers == "auto" else workers
        self._folder = folder.absolute()
        self._token = f".workers{PARTIAL}-{uuid.uuid4().hex}"
        self._size = 0
        self._false_starts = 0
        self._told = False
        self._idle: deque[Any] = deque()
        self._joining: dict[Any, Any] = {}
        self._busy: dict[Any, tuple[Any, _Task[Any]]] = {}

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        self.let_go()
        if self._size:
            self._size = 0
            (self._folder / self._token).unlink(missing_ok=True)
            self._cluster.close()

    def let_go(self) -> None:
        """End the workers, for what needs their memory next; others start with the next shards."""
        for actor in [*self._idle, *self._joining.values(), *(actor for actor, _ in self._busy.values())]:
            _end(actor)
        self._idle.clear()
        self._joining.clear()
        self._busy.clear()
        let_go_of_engine()

    def map_shards(self, function: Callable[[Shard], Result], shards: Iterable[Shard]) -> Iterator[tuple[int, Result]]:
        """(number of the shard, ``function(shard)``) for every shard, as they are completed.

        As ``EnginePool.map_shards``, but a lost worker is no error. Raises ``ResourceError`` for a shard that was lost
        with several workers, and where no worker starts.
        """
        numbered = (_Task(number, shard) for number, shard in enumerate(shards))
        waiting: deque[_Task[Shard]] = deque()
        done = False
        try:
            while self._has_work(waiting, numbered):
                self._hand_out(function, waiting)
                yield from self._collect(waiting)
            done = True
        finally:
            if not done:  # an error, an interrupt, or a caller who lost interest
                self.let_go()

    def _has_work(self, waiting: deque[_Task[Shard]], numbered: Iterator[_Task[Shard]]) -> bool:
        """Take as many shards as there may be workers; whether there are any, waiting or under way."""
        if not self._size:  # nothing is connected to or started before there is a first shard
            first = next(numbered, None)
            if first is None:
                return False
            waiting.append(first)
            self._connect()
        waiting.extend(itertools.islice(numbered, max(0, self._size - len(waiting) - len(self._busy))))
        return bool(waiting or self._busy)

    def _connect(self) -> None:
        self._cluster.connect(self._wanted)
        self._needs = self._cluster.needs(self._model)
        if self._wanted is None:
            self._size = 1 if self._model.server is not None else self._cluster.require_room(self._needs)
        else:
            self._size = self._wanted
        with writing(self._folder):
            (self._folder / self._token).touch()
        ray = import_ray()
        self._lost = (
            *(ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.OutOfMemoryError),
            *(ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError),
        )
        self._actor_class = ray.remote(RayWorker).options(
            num_cpus=self._needs.cpus,
            num_gpus=self._needs.gpus,
            memory=self._needs.memory,
            scheduling_strategy="SPREAD",
            max_restarts=0,
        )

    def _hand_out(self, function: Callable[[Shard], Any], waiting: deque[_Task[Shard]]) -> None:
        """Give the shards that wait to idle workers, and start workers for the rest."""
        while waiting and self._idle:
            actor, task = self._idle.popleft(), waiting.popleft()
            self._busy[actor.work.remote(function, task.shard)] = (actor, task)
        while len(self._joining) < len(waiting) and len(self._joining) + len(self._busy) < self._size:
            actor = self._actor_class.remote()
            workplace = Workplace(str(self._folder), self._token, os.getcwd(), self._needs.cpus)
            self._joining[actor.join.remote(workplace)] = actor

    def _collect(self, waiting: deque[_Task[Shard]]) -> Iterator[tuple[int, Any]]:
        """Wait until a worker has something to say: the results among it."""
        for answer in self._wait():
            if answer in self._joining:
                self._welcome(answer, self._joining.pop(answer))
                continue
            actor, task = self._busy.pop(answer)
            try:
                succeeded, result = import_ray().get(answer)
            except self._lost as error:
                _end(actor)
                self._return(task, error)
                waiting.appendleft(task)
                continue
            self._idle.append(actor)
            if not succeeded:
                raise result
            yield task.number, result

    def _wait(self) -> list[Any]:
        """Answers that have come; at least one. Raises ``ResourceError`` where no worker starts at all."""
        since = time.monotonic()
        while True:
            answers, _ = import_ray().wait([*self._busy, *self._joining], timeout=1.0)
            if answers:
                return answers
            waited = 0.0 if self._busy else time.monotonic() - since
            if waited > _TOLD_AFTER and not self._told:
                self._told = True
                self._warn(f"waiting for the cluster: a worker takes {self._needs} (see `ray status`)")
            if waited > _GIVEN_UP_AFTER:
                raise ResourceError(f"no worker could start in {waited / 60:.0f} minutes: one takes {self._needs}")

    def _welcome(self, answer: Any, actor: Any) -> None:
        """A worker that is ready, or the reason why it is not."""
        try:
            succeeded, result = import_ray().get(answer)
        except self._lost as error:
            _end(actor)
            self._false_starts += 1
            if self._false_starts >= _MOST_FALSE_STARTS:
                raise ResourceError(
                    f"{self._false_starts} workers ended before they began, the last one because: {_reason(error)}: is"
                    " rlsf installed on every node?"
                ) from None
            return
        if not succeeded:
            raise result
        self._false_starts = 0
        self._idle.append(actor)

    def _return(self, task: _Task[Any], error: Exception) -> None:
        """A shard that was lost with its worker waits again."""
        task.losses += 1
        if task.losses >= _MOST_LOSSES:
            raise ResourceError(
                f"{task.losses} workers were lost at the same shard (out of memory?), the last one because:"
                f" {_reason(error)}: lower sampling.batch_tokens and resume"
            ) from None
        self._warn(f"a worker was lost ({_reason(error)}): its shard is made again")


def _end(actor: Any) -> None:
    with contextlib.suppress(Exception):  # it may be gone, and the whole cluster with it
        import_ray().kill(actor)


def _reason(error: Exception) -> str:
    """The sentence of Ray's message that says why; of a traceback its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("The actor is dead", "The actor died because its"))]
    reason = said[-1].partition(". ")[0] if said else (lines or [type(error).__name__])[-1]
    return shortened(reason, 160)
