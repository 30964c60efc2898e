"""Runs a recipe in child processes, each killed (SIGKILL) a moment after a milestone, then lets one finish.

usage: killed_run.py RECIPE FOLDER SEED

Prints as JSON the milestones after which a child was killed.
"""

from __future__ import annotations

import json
import os
import random
import sys
from functools import partial
from pathlib import Path

from killing import killed_after, start

from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.run import run_all
from rlsf.recipes import Recipe, resolve
from rlsf.training import online, train, warm_up  # noqa: F401  children inherit what is imported here

_BEFORE = (
    "evaluation/before/traces/part-00000.parquet",
    "evaluation/before/traces/manifest.json",
    "evaluation/before/outcomes.parquet",
    "evaluation/before/manifest.json",
)
_AFTER = (
    "policy",
    "evaluation/after/traces/part-00000.parquet",
    "evaluation/after/outcomes.parquet",
    "evaluation/summary.json",
    "report.html",
)
#: What a run of two rounds writes on its way, in this order.
OF_PREFERENCES = (
    "recipe.yaml",
    *_BEFORE,
    *(
        f"{folder}/round-{round_}/{name}"
        for round_ in (1, 2)
        for folder, name in (
            ("traces", "part-00000.parquet"),
            ("traces", "manifest.json"),
            ("preferences", "pairs.parquet"),
            ("preferences", "manifest.json"),
            ("checkpoints", "checkpoint-2"),
            ("checkpoints", "checkpoint-6"),
            ("checkpoints", "manifest.json"),
        )
    ),
    *_AFTER,
)
#: What an online run with a warm-up writes.
OF_ONLINE = (
    "recipe.yaml",
    "checkpoints/warm-up/traces/part-00000.parquet",
    "checkpoints/warm-up/traces/manifest.json",
    "checkpoints/warm-up/policy",
    "checkpoints/warm-up/manifest.json",
    *_BEFORE,
    "traces/round-1/part-00000.parquet",
    "traces/round-1/manifest.json",
    *(f"checkpoints/round-1/checkpoint-{step}" for step in (0, 2, 4)),
    "checkpoints/round-1/manifest.json",
    *_AFTER,
)
#: Seconds from a milestone to the signal, at most: less after what the end of a stage writes, as the next may be short.
LATEST, LATEST_AT_THE_END = 0.1, 0.01


def milestones(recipe: Recipe) -> tuple[str, ...]:
    """What a run of a recipe writes on its way, in this order."""
    return OF_PREFERENCES if recipe.online is None else OF_ONLINE


def run_to_the_end(recipe_file: Path, folder: Path) -> None:
    with Run(resolve(None, recipe_file), RunFolder(folder)).open(resume=True) as run:
        run_all(run)


def main() -> None:
    recipe_file, folder, moments = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(int(sys.argv[3]))
    work = partial(run_to_the_end, recipe_file, folder)
    killed = []
    for milestone in milestones(resolve(None, recipe_file)):
        # One that is there already was reached before the last signal came: its moment is past.
        if (folder / milestone).exists():
            continue
        ending = milestone.endswith(("manifest.json", "pairs.parquet", "outcomes.parquet"))
        delay = moments.uniform(0, LATEST_AT_THE_END if ending else LATEST)
        if killed_after(start(work), folder / milestone, delay):
            killed.append(milestone)
    assert os.waitpid(start(work), 0)[1] == 0
    print(json.dumps(killed))


if __name__ == "__main__":
    main()
