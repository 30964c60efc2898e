"""Scores traces in child processes, each killed (SIGKILL) a moment after a milestone, then lets one finish.

usage: killed_scoring.py MODEL TRACES FOLDER SEED

Prints as JSON the milestones after which a child was killed.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

from killing import killed_after, start

import rlsf.scoring.scorer  # noqa: F401  children inherit what is imported here
from rlsf.pipeline.scoring import score_stage
from rlsf.pipeline.scoring_config import scoring_config

SHARD_TRACES = 8


def main() -> None:
    model, traces, folder, moments = sys.argv[1], sys.argv[2], Path(sys.argv[3]), random.Random(int(sys.argv[4]))
    config = scoring_config({}, {"traces": traces, "shard_traces": SHARD_TRACES}, {"model": {"path": model}})
    killed = []
    for milestone in ("scoring.json", *(f"part-{number:05d}.parquet" for number in range(6)), "manifest.json"):
        if not (folder / milestone).exists():
            process = start(lambda: score_stage(config, folder, resume=True))
            if killed_after(process, folder / milestone, moments.uniform(0, 0.02)):
                killed.append(milestone)
    assert os.waitpid(start(lambda: score_stage(config, folder, resume=True)), 0)[1] == 0
    print(json.dumps(killed))


if __name__ == "__main__":
    main()
