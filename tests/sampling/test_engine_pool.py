"""Worker processes: results, errors, death of a worker, death of the parent."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlsf.errors import InputError, ResourceError
from rlsf.models import ModelConfig
from rlsf.sampling import EnginePool, SamplingConfig, SamplingRequest
from rlsf.sampling.pool import available_cores, engine_for, weight_bytes, worker_count


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def refuse(number: int) -> int:
    raise InputError(f"line {number}: no such thing")


def divide(number: int) -> float:
    return 1 / number


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def slow_if_first(number: int) -> int:
    time.sleep(2.0 if number == 0 else 0.0)
    return number


def sample_ids(config: ModelConfig, sampling: SamplingConfig, requests: list[SamplingRequest]) -> list[list[list[int]]]:
    groups = engine_for(config).sample(requests, sampling)
    return [[trace.token_ids.tolist() for trace in group] for group in groups]


@pytest.fixture(scope="module")
def pool() -> Iterator[EnginePool]:
    with EnginePool(2) as workers:
        yield workers


@pytest.fixture
def model_folder(
    model_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> ModelConfig:
    model_of("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return ModelConfig(path=str(tmp_path), device="cpu")


def test_every_shard_once_with_its_number(pool: EnginePool) -> None:
    results = dict(pool.map_shards(square, range(20)))
    assert {number: result[0] for number, result in results.items()} == {number: number**2 for number in range(20)}
    assert os.getpid() not in {process for _, process in results.values()}


def test_results_come_as_they_are_completed(pool: EnginePool) -> None:
    list(pool.map_shards(square, range(2)))
    assert [number for number, _ in pool.map_shards(slow_if_first, range(6))][-1] == 0


def test_workers_sample_what_one_process_samples(
    pool: EnginePool, model_folder: ModelConfig, prompts_of: Callable[[int], list[SamplingRequest]]
) -> None:
    sampling = SamplingConfig(strategy="sampling", branches=2, max_new_tokens=6)
    shards = [prompts_of(6)[:2], prompts_of(6)[2:5], prompts_of(6)[5:]]
    sample = partial(sample_ids, model_folder, sampling)
    spread = dict(pool.map_shards(sample, shards))
    with EnginePool(1) as alone:
        assert spread == dict(alone.map_shards(sample, shards))


def test_one_worker_is_this_process() -> None:
    with EnginePool(1) as pool:
        assert list(pool.map_shards(square, [3])) == [(0, (9, os.getpid()))]
        with pytest.raises(InputError, match=r"^line 7: no such thing$"):
            list(pool.map_shards(refuse, [7]))


def test_errors_keep_their_type_and_message(pool: EnginePool) -> None:
    with pytest.raises(InputError, match=r"^line [78]: no such thing$"):
        list(pool.map_shards(refuse, [7, 8]))
    with pytest.raises(ZeroDivisionError) as bug:
        list(pool.map_shards(divide, [0, 1]))
    assert "in divide" in bug.value.__notes__[0], "a bug keeps its traceback"


def test_a_killed_worker_is_one_clear_error_and_the_pool_goes_on(pool: EnginePool) -> None:
    with pytest.raises(ResourceError, match=r"was killed by SIGKILL \(out of memory\?\): lower sampling.workers"):
        list(pool.map_shards(die, range(4)))
    assert len(list(pool.map_shards(square, range(4)))) == 4


def test_shards_are_taken_as_workers_are_free(pool: EnginePool) -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    results = pool.map_shards(square, endless())
    for finished in range(1, 9):
        next(results)
        assert len(taken) <= finished + 2
    results.close()  # type: ignore[attr-defined]


def test_a_caller_who_leaves_early_gets_no_stale_results(pool: EnginePool) -> None:
    results = pool.map_shards(square, range(50))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert sorted(number for number, _ in pool.map_shards(square, range(3))) == [0, 1, 2]


def test_no_more_workers_than_shards() -> None:
    before = set(psutil.Process().children(recursive=True))
    with EnginePool(8) as pool:
        [(_, (_, worker))] = pool.map_shards(square, [2])
        started = {process.pid for process in set(psutil.Process().children(recursive=True)) - before}
        # Multiprocessing keeps a tracker process of its own, and one that workers are forked from.
        assert worker in started
        assert len(started) <= 3
    assert list(EnginePool(8).map_shards(square, [])) == []


def test_leaving_the_pool_ends_its_workers() -> None:
    with EnginePool(2) as pool:
        workers = {process for _, (_, process) in pool.map_shards(square, range(8))}
    assert not any(psutil.pid_exists(worker) for worker in workers)


PARENT = """
import os, time
from rlsf.sampling.pool import EnginePool

def report(seconds):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(seconds)

if __name__ == "__main__":
    with EnginePool(2) as pool:
        list(pool.map_shards(report, [600, 600]))
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_workers_do_not_outlive_their_parent(sent: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        workers = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        parent.send_signal(sent)
        errors = parent.stderr.read()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    assert "rlsf-sampling" not in errors, "workers end quietly"


BARS = """
from rlsf.sampling.pool import EnginePool

def count(number):
    from tqdm import tqdm
    return sum(1 for _ in tqdm(range(number), disable=True))

if __name__ == "__main__":
    with EnginePool(2) as pool:
        print(sorted(pool.map_shards(count, [3, 4])))
"""


def test_progress_bars_of_workers_leave_nothing_behind(tmp_path: Path) -> None:
    script = tmp_path / "bars.py"
    script.write_text(BARS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "[(0, 3), (1, 4)]\n"
    assert done.stderr == ""


def test_how_many_workers() -> None:
    assert worker_count(3, "cpu") == 3
    assert worker_count("auto", "cuda") == 1
    assert 1 <= worker_count("auto", "cpu", weight_bytes=2**20) <= available_cores()
    assert worker_count("auto", "cpu", weight_bytes=8 * 2**30) == 1


def test_weights_are_measured_on_disk(model_folder: ModelConfig) -> None:
    assert model_folder.path is not None
    assert weight_bytes(model_folder) == (Path(model_folder.path) / "model.safetensors").stat().st_size


def test_a_pool_of_nobody() -> None:
    with pytest.raises(ValueError, match="workers=0"):
        EnginePool(0)
