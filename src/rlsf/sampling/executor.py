"""Where shards are made: by processes of this machine or by workers of a Ray cluster. Results do not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, TypeVar

from rlsf.errors import InputError
from rlsf.models.config import ModelConfig
from rlsf.sampling.pool import EnginePool, available_cores, worker_count_for
from rlsf.sampling.worker import load_libraries_ahead

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class Executor(Protocol):
    """Workers that hold an engine each (``engine_for``), as ``EnginePool`` and ``RayPool`` are; a context manager."""

    def map_shards(self, function: Callable[[Shard], Result], shards: Iterable[Shard]) -> Iterator[tuple[int, Result]]:
        """(number of the shard, ``function(shard)``) for every shard, as they are completed.

        Shards are taken from the iterator only as workers become free. A shard may be begun more than once where
        workers can be lost: ``function`` writes whole files or none, and the same ones each time.
        """
        ...

    def let_go(self) -> None:
        """Let go of what holds memory that training wants; the next shards load the model again."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutorOptions:
    """What makes the shards of a run. No part of its recipe: a run may go on under another executor."""

    executor: Literal["local", "ray"] = "local"
    """What samples, scores and judges: ``local`` processes, or the workers of a ``ray`` cluster."""
    workers: int | None = None
    """How many workers, whatever sampling.workers of the recipe says; by default as many as there is room for."""
    ray_address: str | None = None
    """A running cluster: HOST:PORT of its head, or ``auto`` for that of this machine; ``local`` starts one. By default
    RAY_ADDRESS of the environment, else ``local``."""

    @property
    def spreads(self) -> bool:
        """Whether shards are certainly made by other processes than this one."""
        return self.executor == "ray" or (self.workers or 1) > 1

    def arguments(self) -> tuple[str, ...]:
        """These options as they are said on a command line."""
        said = {"--executor": self.executor if self.executor != "local" else None, "--workers": self.workers}
        said["--ray-address"] = self.ray_address
        return tuple(str(part) for item in said.items() if item[1] is not None for part in item)

    def require_usable(self) -> None:
        """Raise ``InputError`` for options that contradict each other, and where Ray is wanted and not installed."""
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers {self.workers}: at least one")
        if self.executor == "ray":
            from rlsf.sampling.ray_cluster import require_ray

            require_ray()
        elif self.ray_address is not None:
            raise InputError(f"--ray-address {self.ray_address} means nothing without --executor ray")

    def load_ahead(self, model: ModelConfig, requested: int | Literal["auto"]) -> None:
        """Let workers of this machine load their libraries, where there may be some, while this process does others."""
        wanted = requested if self.workers is None else self.workers
        if self.executor == "local" and not model.batches_itself and wanted != 1 and available_cores() > 1:
            load_libraries_ahead()

    def open(
        self,
        model: ModelConfig,
        requested: int | Literal["auto"],
        folder: Path,
        warn: Callable[[str], None],
    ) -> Executor:
        """The workers for a run in ``folder`` that samples from ``model`` and its trained descendants.

        ``requested``: the recipe's number of workers, unless these options have one. ``warn`` is told what does not
        end the run.
        """
        wanted = requested if self.workers is None else self.workers
        if self.executor == "local":
            return EnginePool(worker_count_for(model, wanted))
        from rlsf.sampling.ray_cluster import RayCluster
        from rlsf.sampling.ray_pool import RayPool

        return RayPool(RayCluster(self.ray_address), model, wanted, folder, warn)
