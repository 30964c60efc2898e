"""Worker processes that sample disjoint shards, each with its own copy of the model. Imports no torch itself."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import psutil

from rlsf.errors import InputError
from rlsf.models import ModelConfig, check_vocabulary, load_model, load_tokenizer, resolve_device
from rlsf.models.folder import find_base, find_model
from rlsf.models.vllm_config import require_vllm
from rlsf.sampling.worker import Worker

if TYPE_CHECKING:
    from rlsf.sampling.engine import Engine
    from rlsf.sampling.transformers_engine import TransformersEngine

Shard = TypeVar("Shard")
Result = TypeVar("Result")

#: Weights larger than this stay in one process.
_LARGEST_COPY = 2 * 2**30
#: What a process needs besides the weights: the libraries and a cache.
PROCESS_BYTES = 2**30


class _Engines:
    """The one engine that a process holds, with the model configuration it was loaded for."""

    def __init__(self) -> None:
        self._held: tuple[ModelConfig, Engine] | None = None
        self._exit = contextlib.ExitStack()

    def get(self, config: ModelConfig) -> Engine:
        if self._held is None or self._held[0] != config:
            self.clear()  # let go of the former model before there are two
            self._held = (config, _engine(config, self._exit))
        return self._held[1]

    def clear(self) -> None:
        self._held = None
        self._exit.close()


_engines = _Engines()


def _engine(config: ModelConfig, ends: contextlib.ExitStack) -> Engine:
    """``ends``: what is to be called once the engine is let go of."""
    if config.server is not None:
        from rlsf.sampling.openai_engine import OpenAIEngine

        return OpenAIEngine(config, load_tokenizer(config))
    if config.engine == "vllm":
        require_vllm()
        from rlsf.sampling.vllm_engine import VllmEngine

        engine = VllmEngine(config, load_tokenizer(config))
        ends.callback(engine.close)
        return engine
    from rlsf.sampling.transformers_engine import TransformersEngine

    model, tokenizer = load_model(config), load_tokenizer(config)
    check_vocabulary(model, tokenizer)
    return TransformersEngine(model, tokenizer)


def engine_for(config: ModelConfig) -> Engine:
    """The engine of a model, or of the server that holds it, kept a process long until another model is asked for.

    It is known by its configuration, not by its files: weights that change in place under one path stay unseen.
    """
    return _engines.get(config)


def let_go_of_engine() -> None:
    """Let go of the model that this process holds."""
    _engines.clear()


def local_engine_for(config: ModelConfig) -> TransformersEngine:
    """The same of a model in this process, for what reads its distributions; raises ``InputError`` for a server's.

    A model that vLLM samples from is loaded here, and vLLM is ended first.
    """
    from rlsf.sampling.transformers_engine import TransformersEngine

    engine = engine_for(config if config.server is not None else config.by_transformers)
    if not isinstance(engine, TransformersEngine):
        raise InputError(
            "model.server: a server does not return whole distributions, which this needs: leave model.server out"
        )
    return engine


def worker_count_for(config: ModelConfig, requested: int | Literal["auto"]) -> int:
    """How many processes sample from a model: one where what samples has many requests under way at once by itself."""
    if config.batches_itself:
        return 1
    device = resolve_device(config.device).type
    return worker_count(requested, device, weight_bytes(config) if (requested, device) == ("auto", "cpu") else 0)


def worker_count(requested: int | Literal["auto"], device: str, weight_bytes: int = 0) -> int:
    """How many processes to sample with: as asked, else one a core on CPU and one otherwise.

    ``auto`` copies no weights of more than 2 GiB, whose matrix products keep all threads of one process busy, and
    only as many as fit into half of the memory that is free.
    """
    if requested != "auto":
        return requested
    if device != "cpu" or weight_bytes > _LARGEST_COPY:
        return 1
    affordable = psutil.virtual_memory().available // (2 * (PROCESS_BYTES + weight_bytes))
    return max(1, min(available_cores(), affordable))


def weight_bytes(config: ModelConfig) -> int:
    """Size of a model's saved weights, its base model's for an adapter."""
    folder = find_model(config)
    if folder.is_adapter:
        folder = find_base(folder, config)
    return sum(path.stat().st_size for path in folder.path.glob("*.safetensors"))


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class EnginePool:
    """``workers`` processes with ``threads`` threads each; one worker runs in this process, with all threads.

    A context manager: leaving it ends the workers. They also end when the parent does, even by SIGKILL. A
    script needs the usual ``if __name__ == "__main__"`` guard.
    """

    def __init__(self, workers: int, threads: int = 1) -> None:
        if workers < 1:
            raise ValueError(f"workers={workers}: at least one")
        self._size, self._threads = workers, threads
        self._workers: list[Worker] = []

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and let go of the model."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self.let_go()

    def let_go(self) -> None:
        """Let go of the model that this process samples from, for what needs its memory next."""
        if self._size == 1:
            let_go_of_engine()

    def map_shards(self, function: Callable[[Shard], Result], shards: Iterable[Shard]) -> Iterator[tuple[int, Result]]:
        """(number of the shard, ``function(shard)``) for every shard, as they are completed.

        ``shards`` may be any iterator, however long: a shard is taken from it when a worker is free, so that as many
        as there are workers are under way and none waits in memory. Numbers count the shards from 0 as they are taken.
        ``function``, shards and results must be picklable; ``engine_for`` inside ``function`` gives the model. An
        error in a worker ends the others and is raised here with its type and message. Raises ``ResourceError`` if
        a worker is killed.
        """
        numbered = enumerate(shards)
        if self._size == 1:
            return ((number, function(shard)) for number, shard in numbered)
        return self._map(function, numbered)

    def _map(
        self, function: Callable[[Shard], Result], numbered: Iterator[tuple[int, Shard]]
    ) -> Iterator[tuple[int, Result]]:
        busy: dict[Worker, int] = {}
        done = False
        try:
            for place, (number, shard) in enumerate(itertools.islice(numbered, self._size)):
                worker = self._worker(place)
                worker.send(function, shard)
                busy[worker] = number
            while busy:
                for worker in _ready(busy):
                    result = worker.receive(busy.pop(worker))
                    for number, shard in itertools.islice(numbered, 1):
                        worker.send(function, shard)
                        busy[worker] = number
                    yield result
            done = True
        finally:
            if not done:  # an error, an interrupt, or a caller who lost interest
                self.close()

    def _worker(self, place: int) -> Worker:
        """The worker at a place, started when it is first needed."""
        if place == len(self._workers):
            self._workers.append(Worker(place, self._threads))
        return self._workers[place]


def _ready(busy: Iterable[Worker]) -> list[Worker]:
    """Workers that have answered or died; at least one."""
    signals: dict[Any, Worker] = {}
    for worker in busy:
        signals[worker.connection] = worker
        signals[worker.process.sentinel] = worker
    return list(dict.fromkeys(signals[signal] for signal in wait(list(signals))))
