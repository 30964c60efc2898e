"""The whole loop of RLSF by ``rlsf``, and as a user of transformers and TRL writes it: time, memory, what is learned.

python benchmarks/end_to_end.py [--quick] [--json FILE] [--page docs/performance.md] [--seeds 0 1 2]

Measure on held-out questions, sample ten branches of each question to learn from, rank, train by DPO, measure again:
`rlsf demo --alone` with the bundled model on the processor, beside ``_end_to_end_peer.py``, on the same questions with
the same hyper-parameters and numbers of optimiser steps. The label-free choice of the step to keep, which the peer
lacks, is off in the first variant and on, as shipped, in the second. Stages differ in one thing: rlsf decodes ten
branches of a held-out question, the peer the greedy answer alone.

Every run has its own process, which imports and loads everything ("start"; in rlsf that of the workers is part of
"evaluate", and that of TRL of "train"); the order alternates by seed. Memory is that of all processes of a run
together, pages that several share counted once. Other work on the same cores spoils the figures.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from _page import write_tables
from _shared import options, show, write_json
from demo import watch
from rlsf.demo import MODEL_DIR, write_data
from rlsf.demo.settings import demo_settings
from rlsf.evaluation import Metrics, Sample, bootstrap, percentile_interval, table_to_outcomes
from rlsf.pipeline.evaluation import OUTCOMES
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import MANIFEST
from rlsf.recipes import resolve
from rlsf.recipes.resolve import merge

PEER = Path(__file__).with_name("_end_to_end_peer.py")
#: Rows that go through the peer's ``generate`` together: 80 to 320 take equally long, 640 longer.
PEER_ROWS = 128
RESAMPLES = 2000
STAGES = ("start", "evaluate", "sample", "rank", "train")
VARIANTS = {"rlsf": "rlsf", "rlsf-selection": "rlsf, choosing a step", "peer": "transformers and TRL"}
TIME = ("", "seconds", "peer / this", *STAGES, "peak, GB", "pairs")
QUALITY = ("", "accuracy before, %", "after", "after, less the peer's", "ECE before", "after", "after, less the peer's")
#: The same for a terminal.
SHORT = ("", "acc. %", "after", "less the peer's", "ECE", "after", "less the peer's")


def settings(questions: int, test: int, steps: int, seed: int, *, selection: bool) -> dict[str, Any]:
    """What is set on top of the shipped recipe and the demo's settings."""
    return {
        "seed": seed,
        "model": {"device": "cpu"},
        "prompts": {"limit": questions},
        "evaluation_data": {"limit": test},
        "training": {"max_steps": steps, "selection": {"enabled": selection}},
    }


def overrides(layer: dict[str, Any], place: str = "") -> Iterator[str]:
    """A layer of a recipe as options of a command."""
    for key, value in layer.items():
        if isinstance(value, dict):
            yield from overrides(value, f"{place}{key}.")
        else:
            yield from (f"--{place}{key}", json.dumps(value))


def run_rlsf(folder: Path, layer: dict[str, Any]) -> dict[str, Any]:
    """The command, and what its run folder says: stages end when their manifests are written."""
    launched = time.time()
    command = [sys.executable, "-m", "rlsf", "demo", "--alone", "--output", "run", *overrides(layer)]
    seconds, peak = watch(command, folder)
    run = RunFolder(folder / "run")
    folders = {
        "evaluate": run.evaluation("before"),
        "sample": run.traces(1),
        "rank": run.preferences(1),
        "train": run.checkpoints(1),
        "evaluate after": run.evaluation("after"),
    }
    files = [run.environment_file, *(path / MANIFEST for path in folders.values())]
    lasted = [end - begin for begin, end in pairwise(file.stat().st_mtime for file in files)]
    stages = dict(zip(folders, lasted, strict=True))
    stages["evaluate"] += stages.pop("evaluate after") + launched + seconds - files[-1].stat().st_mtime
    pairs = json.loads((run.preferences(1) / MANIFEST).read_text())["counts"]["pairs"]
    outcomes = {phase: _greedy(run.evaluation(phase) / OUTCOMES) for phase in ("before", "after")}
    return {"seconds": seconds, "peak_bytes": peak, "stages": stages, "pairs": pairs, **outcomes}


def _greedy(file: Path) -> list[tuple[float, bool]]:
    outcomes = table_to_outcomes(pq.read_table(file))
    return [(outcome.confidence, outcome.correct) for outcome in outcomes if outcome.mode == "greedy"]


def run_peer(folder: Path, layer: dict[str, Any]) -> dict[str, Any]:
    """The same hyper-parameters and questions for the peer."""
    recipe = resolve("rlsf", None, merge(demo_settings("rlsf"), layer))
    learn, test = write_data(folder, layer["prompts"]["limit"], layer["evaluation_data"]["limit"], seed=0)
    described = {
        "model": str(MODEL_DIR),
        "learn": str(learn),
        "test": str(test),
        "seed": recipe.seed,
        "rows": PEER_ROWS,
        "branches": recipe.sampling.branches,
        "new_tokens": recipe.sampling.max_new_tokens,
        "threshold": recipe.ranking.threshold,
        "training": recipe.training.model_dump(mode="json"),
    }
    (folder / "settings.json").write_text(json.dumps(described))
    seconds, peak = watch([sys.executable, str(PEER), "settings.json", "result.json"], folder)
    result = json.loads((folder / "result.json").read_text())
    return {"stages": result.pop("seconds"), **result, "seconds": seconds, "peak_bytes": peak}


def measure(variant: str, questions: int, test: int, steps: int, seed: int) -> dict[str, Any]:
    """One run in a folder that is thrown away; "start" is what no stage took."""
    layer = settings(questions, test, steps, seed, selection=variant == "rlsf-selection")
    with tempfile.TemporaryDirectory() as temporary:
        measured = (run_peer if variant == "peer" else run_rlsf)(Path(temporary), layer)
    start = measured["seconds"] - sum(measured["stages"].values())
    return {"variant": variant, "seed": seed, **measured, "stages": {"start": start, **measured["stages"]}}


def quality(runs: Sequence[dict[str, Any]], phase: str) -> dict[str, tuple[float, np.ndarray]]:
    """Accuracy and ECE, means over runs, with their bootstrap distributions over questions."""
    found = []
    for run in runs:
        confidence, correct = (np.array(column) for column in zip(*run[phase], strict=True))
        whole = correct.astype(np.int64)
        metrics = Metrics(Sample(confidence.astype(np.float64), whole, whole, np.zeros_like(whole)))
        # The same seed draws the same questions for every run, so that differences are paired.
        found.append((metrics.values(), bootstrap(metrics, len(whole), RESAMPLES, seed=0)))
    return {
        name: (
            statistics.fmean(values[name] for values, _ in found),
            np.mean([distribution[name] for _, distribution in found], axis=0),
        )
        for name in ("accuracy", "ece")
    }


def time_rows(runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row a variant: means over seeds, and the ratios to the peer's run with the same seed."""
    peer = {run["seed"]: run["seconds"] for run in runs if run["variant"] == "peer"}
    rows = []
    for variant, of_variant in by_variant(runs):
        mean = _mean_of(of_variant)
        ratios = [peer[run["seed"]] / run["seconds"] for run in of_variant]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 and variant != "peer" else ""
        rows.append(
            [
                VARIANTS[variant],
                f"{mean(lambda run: run['seconds']):.1f}",
                f"{statistics.fmean(ratios):.2f}{spread}",
                *(f"{mean(lambda run, stage=stage: run['stages'][stage]):.1f}" for stage in STAGES),
                f"{mean(lambda run: run['peak_bytes']) / 1e9:.2f}",
                f"{mean(lambda run: run['pairs']):.0f}",
            ]
        )
    return rows


def quality_rows(runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row a variant: means over seeds, and 95 % intervals of differences over the same questions."""
    groups = dict(by_variant(runs))
    peer, rows = quality(groups["peer"], "after"), []
    for variant, of_variant in groups.items():
        before, after = quality(of_variant, "before"), quality(of_variant, "after")
        row = [VARIANTS[variant]]
        for name, scale, form in (("accuracy", 100, ".1f"), ("ece", 1, ".3f")):
            row += [f"{scale * values[name][0]:{form}}" for values in (before, after)]
            low, high = percentile_interval(scale * (after[name][1] - peer[name][1])) or (0.0, 0.0)
            value = scale * (after[name][0] - peer[name][0])
            row.append("" if variant == "peer" else f"{value:+{form}} ({low:+{form}} to {high:+{form}})")
        rows.append(row)
    return rows


def by_variant(runs: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for variant in VARIANTS:
        found = [run for run in runs if run["variant"] == variant]
        if found:
            yield variant, found


def _mean_of(runs: Sequence[dict[str, Any]]) -> Callable[[Callable[[dict[str, Any]], float]], float]:
    return lambda figure: statistics.fmean(map(figure, runs))


def main() -> None:
    parser = options("The whole loop by rlsf, and by transformers and TRL")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--page", type=Path, metavar="FILE", help="a Markdown page to write the tables into")
    arguments = parser.parse_args()
    size, variants = (400, 500, 60), list(VARIANTS)
    if arguments.quick:
        size, variants, arguments.seeds = (60, 60, 10), ["rlsf", "peer"], arguments.seeds[:1]
    os.environ["HF_HUB_OFFLINE"] = "1"
    started, runs = time.monotonic(), []
    for turn, seed in enumerate(arguments.seeds):
        for variant in variants if turn % 2 == 0 else reversed(variants):
            runs.append(measure(variant, *size, seed))
            print(f"{time.monotonic() - started:5.0f} s  {VARIANTS[variant]}, seed {seed}", flush=True)
    tables = {"end to end": (TIME, time_rows(runs)), "end to end, quality": (QUALITY, quality_rows(runs))}
    for name, (header, rows) in tables.items():
        show(name, list(SHORT if header is QUALITY else header), rows)
    write_json(arguments.json, {"quick": arguments.quick, "questions": size[0], "test": size[1], "runs": runs})
    if arguments.page is not None:
        write_tables(arguments.page, tables)


if __name__ == "__main__":
    main()
