"""Where shards are made: what is refused before anything starts, in one line each."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rlsf.errors import InputError
from rlsf.models.config import ModelConfig
from rlsf.sampling import EnginePool, ray_cluster
from rlsf.sampling.executor import ExecutorOptions
from rlsf.sampling.ray_cluster import RayCluster, WorkerNeeds
from rlsf.sampling.ray_worker import RayWorker, Workplace
from rlsf.sampling.worker import answered


def test_local_processes_unless_said_otherwise(tmp_path: Path) -> None:
    options = ExecutorOptions()
    options.require_usable()
    assert isinstance(options.open(ModelConfig(device="cpu"), 1, tmp_path, print), EnginePool)
    assert options.arguments() == ()


def test_the_number_said_on_the_command_line_wins_over_the_recipe(tmp_path: Path) -> None:
    with ExecutorOptions(workers=1).open(ModelConfig(device="cpu"), 7, tmp_path, print) as pool:
        assert list(pool.map_shards(len, [[1, 2]])) == [(0, 2)]
        assert pool._size == 1  # type: ignore[attr-defined]


def test_options_are_said_again_as_they_were() -> None:
    options = ExecutorOptions(executor="ray", workers=3, ray_address="auto")
    assert options.arguments() == ("--executor", "ray", "--workers", "3", "--ray-address", "auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExecutorOptions(workers=0), "--workers 0: at least one"),
        (ExecutorOptions(ray_address="auto"), "--ray-address auto means nothing without --executor ray"),
    ],
)
def test_contradictions(options: ExecutorOptions, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        options.require_usable()


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"Ray is not installed: pip install 'rlsf\[ray\]', or use --executor local"):
        ExecutorOptions(executor="ray").require_usable()


def test_an_address_where_nothing_answers() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with socket.socket() as taken:  # bound and not listening: no cluster can answer there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"^--ray-address {address}: no cluster answers there \(.*\): start one"):
            RayCluster(address).connect(None)


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:"])
def test_an_address_that_is_none(address: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(InputError, match=f"^--ray-address {address}: say HOST:PORT of the head, auto or local"):
        RayCluster(address).connect(None)


def test_the_environment_names_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert RayCluster().is_local
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert RayCluster().address == "head:6379"
    assert RayCluster("local").is_local


def test_a_node_holds_as_many_workers_as_its_scarcest_resource_allows() -> None:
    on_cpu, on_gpu = WorkerNeeds(1, 0, 2**30), WorkerNeeds(1, 2, 2**30)
    node = {"CPU": 8.0, "GPU": 4.0, "memory": 3.5 * 2**30}
    assert on_cpu.fit_into(node) == 3
    assert on_gpu.fit_into(node) == 2
    assert on_gpu.fit_into({"CPU": 8.0, "memory": 2.0**40}) == 0
    assert str(on_gpu) == "1 CPU, 2 GPU and 1.0 GiB"


def test_a_machine_that_does_not_see_the_run_folder(tmp_path: Path) -> None:
    workplace = Workplace(str(tmp_path / "elsewhere"), ".token", str(Path.cwd()), threads=1)
    succeeded, error = RayWorker().join(workplace)
    assert not succeeded
    assert isinstance(error, InputError)
    assert f"does not see the folder {tmp_path}/elsewhere: choose an --output on a file system that all" in str(error)


def test_a_machine_with_another_version(tmp_path: Path) -> None:
    workplace = Workplace(str(tmp_path), ".token", str(Path.cwd()), threads=1, version="0.0.1")
    succeeded, error = RayWorker().join(workplace)
    assert not succeeded
    assert "this machine 0.0.1: install the same one on all" in str(error)


def test_what_a_worker_answers() -> None:
    assert RayWorker().work(abs, -2) == answered(abs, -2) == (True, 2)
