"""kill -9 in the middle of scoring, then --resume; and memory that does not grow with the number of traces."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from given_traces import lines, score
from killed_scoring import SHARD_TRACES

from rlsf.demo import MODEL_DIR
from rlsf.pipeline.scored_shards import ScoredFolder
from rlsf.traces import Trace

HERE = Path(__file__).parent


def questions(path: Path, count: int) -> Path:
    return lines(path, *({"id": f"p{n}", "prompt": f"Q: {n} + 1?", "completion": f"It is {n}."} for n in range(count)))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and process groups")
def test_killed_again_and_again_it_ends_with_the_rows_of_a_run_never_killed(tmp_path: Path) -> None:
    traces = questions(tmp_path / "traces.jsonl", 6 * SHARD_TRACES - 3)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    score(traces, whole, shard_traces=SHARD_TRACES)
    process = subprocess.run(
        [sys.executable, str(HERE / "killed_scoring.py"), str(MODEL_DIR), str(traces), str(killed), "0"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert len(json.loads(process.stdout.splitlines()[-1])) >= 3, process.stdout
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}
    assert len(list(whole.glob("*.parquet"))) == 6
    for path in sorted(whole.glob("*.parquet")):
        assert pq.read_table(killed / path.name).equals(pq.read_table(path), check_metadata=True)
    assert json.loads((killed / "manifest.json").read_text()) == json.loads((whole / "manifest.json").read_text())


def test_no_more_than_a_shard_of_traces_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    write = ScoredFolder.write_shard

    def counting(*arguments: Any) -> Any:
        held.append(sum(isinstance(thing, Trace) for thing in gc.get_objects()))
        return write(*arguments)

    monkeypatch.setattr(ScoredFolder, "write_shard", counting)
    gc.collect()
    before = sum(isinstance(thing, Trace) for thing in gc.get_objects())
    score(questions(tmp_path / "traces.jsonl", 200), tmp_path / "scored", shard_traces=20)
    assert len(held) == 10
    assert max(held) - before <= 2 * 20 + 2, "a shard as read and as scored"


@pytest.mark.slow
def test_memory_is_flat(tmp_path: Path) -> None:
    """Held at once, 18,000 more traces take about 150 MB."""
    peaks = subprocess.run(
        [sys.executable, str(HERE / "scoring_memory.py"), str(tmp_path), "2000", "20000"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    few, many = map(int, peaks)
    assert many - few < 40 * 2**20
