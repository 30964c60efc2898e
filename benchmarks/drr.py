"""Accept or try again on the bundled model: the loop beside other uses of as many calls, by seed and kind of labels.

python benchmarks/drr.py [--quick] [--json FILE] [--page docs/results.md] [--seeds 0 1 2]

Each run is that of `rlsf demo --recipe drr --seed S`: 400 generated questions to learn from, 500 others to measure on,
the policy as it is. It is done with gold answers and with the answers of most samples in their place. Two runs at a
time, each on one thread. ``--page`` writes the table between the marks of a Markdown page. Runs that ``--json FILE``
holds already are not done again.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from _cells import Cells
from _page import write_tables
from _shared import finished_runs, options, show, write_json
from rlsf.cli.demo import SELF_TRAINING, TEST
from rlsf.demo import MODEL_DIR, write_data
from rlsf.demo.settings import demo_settings
from rlsf.pipeline.acceptance import ACCEPTANCE
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import RETRY
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.pipeline.run import run_all
from rlsf.recipes import resolve
from rlsf.recipes.resolve import merge

LABELS = ("gold", "majority")
SCORERS = ("model", "confidence")
HEADER = (
    "accepted by",
    "labels",
    "loop, %",
    "attempts",
    "one attempt, %",
    "majority, %",
    "best, %",
    "any right, %",
    "p, %",
    "a, %",
    "b, %",
    "closed form, %",
    "promised, %",
)
#: The same for a terminal.
SHORT = ("by", "labels", "loop, %", "attempts", "one", "majority", "best", "any", "p", "a", "b", "form", "promised")
QUICK: dict[str, Any] = {"acceptance": {"rounds": 2, "votes": 3, "training": {"max_steps": 8}}}


def one_run(labels: str, seed: int, questions: int, test: int, *, quick: bool) -> dict[str, Any]:
    """Run the recipe in a folder that is thrown away; what is left of it."""
    torch.set_num_threads(1)
    started, silent = time.monotonic(), ProgressDisplay(Console(quiet=True))  # several runs share the terminal
    with tempfile.TemporaryDirectory() as temporary:
        learned_from, measured_on = write_data(Path(temporary), questions, test, seed=0, labelled=labels == "gold")
        data = {
            "model": {"path": str(MODEL_DIR), "device": "cpu"},
            "prompts": {"path": str(learned_from)},
            "evaluation_data": {"path": str(measured_on)},
            "sampling": {"workers": 1, "branches": 1},  # greedy decoding needs no more
            "acceptance": {"labels": labels},
            "evaluation": {"modes": ["greedy", "retry"]},
            "seed": seed,
        }
        layers = merge(demo_settings("drr"), merge(data, QUICK if quick else {}))
        with Run(resolve("drr", None, layers), RunFolder(Path(temporary) / "run"), silent).open(resume=False) as run:
            run_all(run)
            retry = json.loads((run.folder.evaluation("before") / RETRY).read_text())
            acceptance = json.loads((run.folder.acceptance / ACCEPTANCE).read_text())
    seconds = time.monotonic() - started
    return {"labels": labels, "seed": seed, "retry": retry, "acceptance": acceptance, "seconds": seconds}


def table(runs: Sequence[Mapping[str, Any]], *, ranges: bool) -> list[list[str]]:
    """One row for what accepts and the labels it learned from: means over the seeds."""
    rows = []
    for scorer in SCORERS:
        for labels in LABELS:
            chosen = [run for run in runs if run["labels"] == labels]
            if not chosen:
                continue
            loop = Cells([run["retry"]["loops"][scorer] for run in chosen], ranges=ranges)
            promised = Cells([run["acceptance"]["scores"][scorer] for run in chosen], ranges=ranges)
            rows.append(
                [
                    scorer,
                    labels,
                    loop(".1f", "accuracy", scale=100),
                    loop(".2f", "mean_rounds"),
                    *(loop(".1f", "same_calls", name, scale=100) for name in ("first", "majority", "best", "oracle")),
                    *(loop(".1f", name, scale=100) for name in ("p", "a", "b", "predicted")),
                    promised(".1f", "predicted", scale=100),
                ]
            )
    return rows


def main() -> None:
    parser = options("Accept or try again on the bundled model")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--page", type=Path, metavar="FILE", help="a Markdown page to write the table into")
    arguments = parser.parse_args()
    size = (60, 30) if arguments.quick else (SELF_TRAINING, TEST)
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    started, runs = time.monotonic(), finished_runs(arguments.json)
    known = {(run["labels"], run["seed"]) for run in runs}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        tasks = [
            pool.submit(one_run, labels, seed, *size, quick=arguments.quick)
            for seed in seeds
            for labels in LABELS
            if (labels, seed) not in known
        ]
        for done in as_completed(tasks):
            run = done.result()
            runs.append(run)
            write_json(arguments.json, {"runs": runs})
            print(f"{time.monotonic() - started:5.0f} s  {run['labels']}, seed {run['seed']}", flush=True)
    runs = sorted((run for run in runs if run["seed"] in seeds), key=lambda run: run["seed"])
    show("accept or try again on the bundled model, means", list(SHORT), table(runs, ranges=False))
    if arguments.page is not None:
        write_tables(arguments.page, {"drr": (HEADER, table(runs, ranges=True))})


if __name__ == "__main__":
    main()
