"""One recipe on one process and on a cluster whose workers, nodes and driver are killed: the same rows."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from run_files import manifest, rows

from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.run import sample_round
from rlsf.recipes import Recipe, to_yaml
from rlsf.sampling.executor import ExecutorOptions

pytest.importorskip("ray", reason="Ray is not installed")
sys.path.append(str(Path(__file__).parent.parent / "sampling"))
from ray_nodes import Misfortune, killing_the_doomed_node, nodes_of_one_cpu

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
SHARDS = 24
#: Of what the pool says of a worker that it lost.
LOST = "a worker was lost"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with nodes_of_one_cpu(3) as nodes:
        yield nodes


@pytest.fixture
def recipe(small_recipe: Callable[..., Recipe]) -> Recipe:
    """As many shards as prompts."""
    return small_recipe("sampling.shard_prompts=1", "sampling.branches=3", "sampling.max_new_tokens=32")


@pytest.fixture
def whole(recipe: Recipe, tmp_path: Path) -> Path:
    """The run folder of one process that nothing happened to."""
    folder = tmp_path / "whole"
    with Run(recipe, RunFolder(folder)).open(resume=False) as run:
        sample_round(run, 1)
    return folder


class Sabotaged:
    """A pool whose shards bring a misfortune."""

    def __init__(self, pool: Any, misfortune: Callable[[Any], Misfortune]) -> None:
        self._pool, self._misfortune = pool, misfortune

    def map_shards(self, function: Any, shards: Any) -> Iterator[Any]:
        return self._pool.map_shards(self._misfortune(function), enumerate(shards))


def require_same(folder: Path, whole: Path) -> None:
    assert rows(folder) == rows(whole)
    assert manifest(folder, "traces/round-1") == manifest(whole, "traces/round-1")
    names = sorted(path.name for path in (folder / "traces" / "round-1").iterdir())
    assert names == ["manifest.json", *(f"part-{number:05d}.parquet" for number in range(SHARDS))]
    assert not list(folder.glob("*.partial-*"))


def test_a_worker_and_a_node_are_lost(cluster: Any, recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    folder, options = tmp_path / "spread", ExecutorOptions(executor="ray", workers=3, ray_address=cluster.address)
    events = tmp_path / "events"
    events.mkdir()
    said: list[str] = []
    with Run(recipe, RunFolder(folder), executor=options).open(resume=False) as run:
        run.progress.warn = said.append
        misfortune = partial(Misfortune, folder=events, spared=cluster.head_node.node_id)
        run.__dict__["pool"] = Sabotaged(run.pool, misfortune)
        with killing_the_doomed_node(cluster, events):
            sample_round(run, 1)
    assert sum(LOST in line for line in said) == 2, said
    assert len(cluster.worker_nodes) == 1
    require_same(folder, whole)


def test_the_driver_is_killed_and_the_run_goes_on_elsewhere(
    cluster: Any, recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    folder, recipe_file = tmp_path / "spread", tmp_path / "recipe.yaml"
    recipe_file.write_text(to_yaml(recipe))
    command = [sys.executable, "-m", "rlsf", "sample", "--config", str(recipe_file), "--output", str(folder)]
    command += ExecutorOptions(executor="ray", workers=2, ray_address=cluster.address).arguments()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as driver:
        while not list(folder.glob("traces/round-1/part-*.parquet")):
            assert driver.poll() is None, driver.stdout and driver.stdout.read().decode()
            time.sleep(0.01)
        driver.send_signal(signal.SIGKILL)
    assert len(list(folder.glob("traces/round-1/part-*.parquet"))) < SHARDS
    with Run(recipe, RunFolder(folder)).open(resume=True) as run:  # by processes of this machine
        sample_round(run, 1)
    require_same(folder, whole)
