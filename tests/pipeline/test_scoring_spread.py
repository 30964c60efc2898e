"""Scoring by several processes: the shards of one process, whichever of them were finished before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from given_traces import all_traces, lines, vllm_records
from run_files import rows

from rlsf.demo import MODEL_DIR
from rlsf.models import ModelConfig, load_tokenizer
from rlsf.pipeline.context import Run
from rlsf.pipeline.run import sample_round
from rlsf.pipeline.scored_shards import ScoredFolder
from rlsf.pipeline.scoring import score_stage
from rlsf.pipeline.scoring_config import scoring_config
from rlsf.recipes import Recipe
from rlsf.sampling.executor import ExecutorOptions


def test_two_processes_score_what_one_scores(
    small_recipe: Callable[..., Recipe], open_run: Callable[..., Run], tmp_path: Path
) -> None:
    with open_run(small_recipe("sampling.max_new_tokens=24"), tmp_path / "run") as run:
        sample_round(run, 1)
    tokenizer = load_tokenizer(ModelConfig(path=str(MODEL_DIR)))
    traces = lines(tmp_path / "vllm.jsonl", *vllm_records(all_traces(run.folder.traces(1)), tokenizer))
    config = scoring_config(
        {}, {"traces": str(traces), "shard_traces": 24}, {"model": {"path": str(MODEL_DIR), "device": "cpu"}}
    )
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    one = score_stage(config, alone)
    assert one.counts["shards"] == 6
    # A process that was interrupted had finished the first shard and, on another worker, the fourth.
    two = ExecutorOptions(workers=2)
    score_stage(config, spread, executor=two)
    (spread / "manifest.json").unlink()
    for number in (1, 2, 4, 5):
        (spread / f"part-{number:05d}.parquet").unlink()
    kept = {number: (spread / f"part-{number:05d}.parquet").stat().st_mtime_ns for number in (0, 3)}
    again = score_stage(config, spread, resume=True, executor=two)
    assert rows(spread) == rows(alone)
    assert json.dumps(again.counts) == json.dumps(one.counts)
    assert {number: (spread / f"part-{number:05d}.parquet").stat().st_mtime_ns for number in kept} == kept
    stamp = json.loads((spread / "scoring.json").read_text())["inputs"]
    assert again.inputs == one.inputs == stamp
    assert len(list(ScoredFolder(spread).path.glob("part-*"))) == 6
