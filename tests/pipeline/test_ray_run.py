"""The same rows from one process and from a cluster, by every command, whatever happens to workers and nodes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from run_files import manifest, rows, weights

from rlsf.cli.app import INTERRUPTED, execute
from rlsf.demo import MODEL_DIR, write_data
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
#: Of the rows of a run: all but the reference of pairs that no step reads, which is missing (NaN).
TABLES = ("traces/**/*.parquet", "preferences/**/*.parquet", "judgements/**/*.parquet", "evaluation/**/*.parquet")
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


def spread_and_alone(cluster: Any, folder: Path, *command: str | Path) -> None:
    """Run a command on one process, with its output in ``folder / "alone"``, and on the cluster, in ``"spread"``."""
    ways = {
        "alone": ExecutorOptions(workers=1),
        "spread": ExecutorOptions(executor="ray", workers=2, ray_address=cluster.address),
    }
    for name, way in ways.items():
        words = (str(word).replace("OUTPUT", str(folder / name)) for word in command)
        assert execute([*words, *way.arguments()]) == 0


def same_tables(folder: Path) -> int:
    """How many tables both folders hold, which are the same."""
    found = [{name: rows(folder / name, tables) for name in ("alone", "spread")} for tables in TABLES]
    for either in found:
        assert either["alone"] == either["spread"]
    return sum(len(either["alone"]) for either in found)


def test_commands_give_the_same_on_a_cluster(
    cluster: Any, small_recipe: Callable[..., Recipe], demo_data: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(small_recipe("training.max_steps=2")))
    spread_and_alone(cluster, tmp_path / "run", "run", "--config", recipe, "--output", "OUTPUT")
    assert same_tables(tmp_path / "run") >= 8
    assert weights(tmp_path / "run" / "alone") == weights(tmp_path / "run" / "spread")

    model = small_recipe().model.path or ""
    few = ("--sampling.branches=3", "--sampling.shard_prompts=4", "--evaluation.bootstrap=100")
    spread_and_alone(
        cluster, tmp_path / "eval", "eval", "--model", model, "--data", demo_data[1], "--output", "OUTPUT", *few
    )
    assert same_tables(tmp_path / "eval") == 5
    for command in ("run", "eval"):
        summaries = [tmp_path / command / name / "evaluation" / "summary.json" for name in ("alone", "spread")]
        assert json.loads(summaries[0].read_text()) == json.loads(summaries[1].read_text())

    traces = tmp_path / "run" / "alone" / "traces" / "round-1"
    scored = ("score", "--model", model, "--traces", traces, "--output", "OUTPUT", "--shard-traces", "20")
    spread_and_alone(cluster, tmp_path / "score", *scored)
    assert len(rows(tmp_path / "score" / "alone")) > 2
    assert rows(tmp_path / "score" / "alone") == rows(tmp_path / "score" / "spread")


def test_a_judge_says_the_same_on_a_cluster(cluster: Any, small_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    sampled = tmp_path / "alone"
    with Run(small_recipe("prompts.limit=12", name="core-po"), RunFolder(sampled)).open(resume=False) as run:
        sample_round(run, 1)
    shutil.copytree(sampled, tmp_path / "spread")
    spread_and_alone(cluster, tmp_path, "rank", "OUTPUT")
    assert rows(tmp_path / "spread", "judgements/**/*.parquet")
    assert same_tables(tmp_path) > 3


def test_answers_are_the_same_on_a_cluster(cluster: Any, demo_data: tuple[Path, Path], tmp_path: Path) -> None:
    model, few = str(MODEL_DIR), ("sampling.shard_prompts=4", "sampling.max_new_tokens=32")
    chosen = ("best-of-n", "--model", model, "--data", demo_data[1], "--n", "4", "--output", "OUTPUT", *few)
    spread_and_alone(cluster, tmp_path, *chosen)
    assert same_tables(tmp_path) == 4
    asked = ("ask", "--model", model, "--batch", demo_data[0], "--output", "OUTPUT.jsonl", "sampling.branches=3", *few)
    spread_and_alone(cluster, tmp_path, *asked)
    for name in ("selection/answers.jsonl", "selection/curves.json"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "spread" / name).read_bytes()
    replies = (tmp_path / "alone.jsonl").read_text()
    assert len(replies.splitlines()) == 24
    assert replies == (tmp_path / "spread.jsonl").read_text()


def test_ctrl_c_ends_the_cluster_that_the_run_started(
    small_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a terminal, where all processes of the command get it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    prompts, _ = write_data(tmp_path, self_training=120, test=1)
    few = ("sampling.shard_prompts=1", "sampling.branches=3", "sampling.max_new_tokens=32", f"prompts.path={prompts}")
    recipe, recipe_file = small_recipe(*few), tmp_path / "recipe.yaml"
    recipe_file.write_text(to_yaml(recipe))
    folder, options = tmp_path / "stopped", ("--executor", "ray", "--workers", "2")
    command = [sys.executable, "-m", "rlsf", "sample", "--config", str(recipe_file), "--output", str(folder), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as driver:
        while not list(folder.glob("traces/round-1/part-*.parquet")):
            assert driver.poll() is None, driver.stderr and driver.stderr.read()
            time.sleep(0.01)
        others = psutil.Process(driver.pid).children(recursive=True)
        os.killpg(driver.pid, signal.SIGINT)
        _, shown = driver.communicate(timeout=120)
    assert driver.returncode == INTERRUPTED
    go_on = f"rlsf sample --resume --output {folder} {' '.join(options)}"
    assert shown.splitlines()[-1] == f"stopped: what is finished is kept: go on with `{go_on}`"
    assert "Traceback" not in shown
    assert len(others) > 2
    assert not psutil.wait_procs(others, timeout=60)[1]
    assert 0 < len(list(folder.glob("traces/round-1/part-*.parquet"))) < 120
    assert not list(folder.glob(".workers*"))

    for path, resume in ((folder, True), (tmp_path / "whole", False)):  # by processes of this machine
        with Run(recipe, RunFolder(path)).open(resume=resume) as run:
            sample_round(run, 1)
    assert len(rows(folder)) == 120
    assert rows(folder) == rows(tmp_path / "whole")
