"""What a run folder says was spent: tokens of stages that are done and of those under way, seconds of all processes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlsf.files import write_json
from rlsf.pipeline import metrics
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import Manifest
from rlsf.pipeline.metrics import MetricsLog, spends
from rlsf.pipeline.shards import ShardCounts, shard_path
from rlsf.pipeline.spent import Spent, of_stages, read_spent


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        # The module's own name alone: other threads keep the true clock.
        monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def seconds(folder: Path) -> tuple[float, float]:
    spent = read_spent(RunFolder(folder))
    return spent.seconds_learning, spent.seconds_measuring


def test_seconds_belong_to_what_the_innermost_stage_is_for(tmp_path: Path, clock: Clock) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    clock.now += 1000  # for nothing
    with log.spending("learning"):
        clock.now += 3
        log.record({"event": "sampling", "phase": "sample"})
        with log.spending("learning"):
            clock.now += 4
        with log.spending("measuring"):
            clock.now += 50
        clock.now += 5
    clock.now += 1000
    log.record({"event": "run"})
    with log.spending("measuring"):
        clock.now += 20
    assert seconds(tmp_path) == (12, 70)
    assert "learning_seconds" not in log.events()[-2]


def test_seconds_of_every_process_add_up_though_events_replace_each_other(tmp_path: Path, clock: Clock) -> None:
    for step in (1, 2, 2, 3):  # the second process begins at the checkpoint of the first step
        log = MetricsLog(tmp_path / "metrics.jsonl")
        with log.spending("learning"):
            clock.now += step
            log.record({"event": "training", "step": step})
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"event": "training", "learning_sec')  # killed in the middle of a line
    assert seconds(tmp_path) == (8, 0)


def test_a_stage_that_fails_has_taken_its_time(tmp_path: Path, clock: Clock) -> None:
    class WithLog:
        metrics = MetricsLog(tmp_path / "metrics.jsonl")

    @spends("measuring")
    def fails(run: WithLog) -> None:
        clock.now += 9
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails(WithLog())
    assert seconds(tmp_path) == (0, 9)


def test_long_silence_is_noted(tmp_path: Path, clock: Clock) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with log.spending("learning"):
        clock.now += 9
        log.tick()
        assert not log.events()
        clock.now += 2
        log.tick()
        assert seconds(tmp_path) == (11, 0)
    log.tick()
    assert len(log.events()) == 1


def test_finished_shards_count_before_their_stage_is_done(tmp_path: Path) -> None:
    shards = [ShardCounts(2, 4, 30, 0, 0, asking_tokens=5), ShardCounts(1, 2, 11, 1, 1)]
    folder = tmp_path / "traces" / "round-1"
    folder.mkdir(parents=True)
    for number, counts in enumerate(shards):
        pq.write_table(pa.table({"x": [1]}).replace_schema_metadata(counts.note("stamp")), shard_path(folder, number))
    expected = Spent(generated_tokens=30 + 5 + 11, completions=6)
    assert read_spent(RunFolder(tmp_path)) == expected
    total = {"prompts": 3, "traces": 6, "tokens": 41, "without_answer": 1, "truncated": 1, "asking_tokens": 5}
    Manifest("sample", {}, {**total, "shards": 2}).write(folder)
    assert read_spent(RunFolder(tmp_path)) == expected
    old = {name: number for name, number in total.items() if name != "asking_tokens"}
    Manifest("sample", {}, old).write(folder)  # of a version that asked for answers and did not count them
    assert read_spent(RunFolder(tmp_path)).generated_tokens == 41


def test_a_training_under_way_counts_as_far_as_its_last_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "round-1"
    for step, tokens in ((4, 400), (10, 1000)):
        path = folder / f"checkpoint-{step}"
        path.mkdir(parents=True)
        spent = {"generated_tokens": 7 * step, "training_tokens": tokens, "completions": step, "ended_by": None}
        write_json(path / "spent.json", spent)
    assert of_stages(folder) == Spent(70, 1000, optimiser_steps=10, completions=10)
    Manifest("train", {}, {"steps": 12, "training_tokens": 1200, "generated_tokens": 84, "completions": 12}).write(
        folder
    )
    assert read_spent(RunFolder(tmp_path)) == Spent(84, 1200, optimiser_steps=12, completions=12)


def test_measuring_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation" / "before" / "traces"
    folder.mkdir(parents=True)
    Manifest("sample", {}, {"tokens": 99, "traces": 9}).write(folder)
    assert read_spent(RunFolder(tmp_path)) == Spent()
    assert json.loads((folder / "manifest.json").read_text())["counts"]["tokens"] == 99
