"""Actors of a real cluster of three nodes: results, errors, and workers and nodes that are lost on the way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError, ResourceError
from rlsf.models.config import ModelConfig
from rlsf.sampling.pool import engine_for
from rlsf.sampling.ray_cluster import RayCluster
from rlsf.sampling.ray_pool import RayPool

pytest.importorskip("ray", reason="Ray is not installed")
from ray_nodes import nodes_of_one_cpu

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
MODEL = ModelConfig(path=str(MODEL_DIR), device="cpu")


def square(number: int) -> tuple[int, int]:
    time.sleep(0.1)
    return number * number, os.getpid()


def refuse(number: int) -> int:
    raise InputError(f"line {number}: no such thing")


def divide(number: int) -> float:
    return 1 / number


def load(path: str) -> str:
    return str(engine_for(MODEL.model_copy(update={"path": path})))


def die_unless_marked(place: str) -> str:
    """Kills its process the first time that it is called for a place."""
    if not Path(place).exists():
        Path(place).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return place


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with nodes_of_one_cpu(2) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def warnings() -> list[str]:
    return []


@pytest.fixture(scope="module")
def pool(cluster: Any, warnings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayPool]:
    folder = tmp_path_factory.mktemp("run")
    with RayPool(RayCluster(cluster.address), MODEL, "auto", folder, warnings.append) as workers:
        yield workers
    assert list(folder.iterdir()) == [], "nothing of the pool is left in the folder"


def test_every_shard_once_with_its_number(pool: RayPool) -> None:
    results = dict(pool.map_shards(square, iter(range(12))))
    assert {number: result[0] for number, result in results.items()} == {number: number**2 for number in range(12)}
    workers = {process for _, process in results.values()}
    assert len(workers) == 2, "as many as there is room for"
    assert {process for _, (_, process) in pool.map_shards(square, range(4))} <= workers, "workers are kept"
    assert list(pool.map_shards(square, [])) == []


def test_shards_are_taken_only_as_workers_become_free(pool: RayPool) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = pool.map_shards(square, endless())
    for done in range(1, 6):
        next(results)
        assert taken <= done + 2, "two workers"
    results.close()  # type: ignore[attr-defined]


def test_errors_keep_their_type_and_message(pool: RayPool) -> None:
    with pytest.raises(InputError, match=r"^line [78]: no such thing$"):
        list(pool.map_shards(refuse, [7, 8]))
    with pytest.raises(ZeroDivisionError) as bug:
        list(pool.map_shards(divide, [0]))
    assert "in divide" in bug.value.__notes__[0], "a bug keeps its traceback"
    with pytest.raises(InputError, match=r"^no such model folder: ./nowhere"):
        list(pool.map_shards(load, ["./nowhere"]))


def test_a_shard_whose_worker_dies_is_made_again(pool: RayPool, warnings: list[str], tmp_path: Path) -> None:
    warnings.clear()
    places = [str(tmp_path / "first"), str(tmp_path / "second")]
    assert sorted(place for _, place in pool.map_shards(die_unless_marked, places)) == places
    assert len(warnings) == 2
    assert warnings[0] == (
        "a worker was lost (The actor is dead because its worker process has died): its shard is made again"
    )


def test_a_shard_that_kills_its_workers_is_given_up(pool: RayPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlsf.sampling.ray_pool._MOST_LOSSES", 2)
    with pytest.raises(ResourceError, match=r"^2 workers were lost at the same shard \(out of memory\?\)"):
        list(pool.map_shards(die, [1]))
    assert [result for _, (result, _) in pool.map_shards(square, [3])] == [9], "and the pool goes on"
