"""Online recipes on the bundled model: reward, held-out accuracy and calibration before and after, by seed.

python benchmarks/online_recipes.py [--quick] [--json FILE] [--page docs/results.md] [--recipes A B ...] [--seeds 0 1 2]

All of them by default, but for those that learn their reward first. Each run is that of `rlsf demo --recipe NAME
--seed S`: the shipped recipe with the demo's settings, 400 generated questions to learn from, 500 others to measure on.
Two runs at a time, each on one thread. ``--page`` writes the table between the two marks of a Markdown page. Runs that
``--json FILE`` holds already are not done again.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from _shared import machine, options, show, write_json
from rlsf.demo import MODEL_DIR, write_data
from rlsf.demo.settings import demo_settings
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import read_manifest
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.pipeline.run import run_all
from rlsf.recipes import RECIPES, resolve
from rlsf.recipes.resolve import merge

QUESTIONS, TEST = 400, 500
#: Steps over which the reward at either end is averaged.
ENDS = 5
MARKS = ("<!-- table -->", "<!-- end of table -->")
HEADER = (
    "recipe",
    "labels",
    "reward at first",
    "at last",
    "accuracy before, %",
    "after",
    "ECE before",
    "after",
    "tokens before",
    "after",
    "steps kept",
)
#: The same for a terminal.
SHORT = ("recipe", "labels", "reward", "last", "acc. %", "after", "ECE", "after", "tokens", "after", "steps kept")


def one_run(recipe: str, seed: int, questions: int, test: int, layer: Mapping[str, Any]) -> dict[str, Any]:
    """Run a recipe in a folder that is thrown away; what is left of it."""
    torch.set_num_threads(1)
    resolved, started = resolve(recipe), time.monotonic()
    silent = ProgressDisplay(Console(quiet=True))  # several runs share the terminal
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        learned_from, measured_on = write_data(folder, questions, test, seed=0, labelled=resolved.needs_labels)
        data = {
            "model": {"path": str(MODEL_DIR), "device": "cpu"},
            "prompts": {"path": str(learned_from)},
            "evaluation_data": {"path": str(measured_on)},
            "sampling": {"workers": 1},
            "seed": seed,
        }
        resolved = resolve(recipe, None, merge(merge(demo_settings(recipe), data), layer))
        with Run(resolved, RunFolder(folder / "run"), silent).open(resume=False) as run:
            summary = run_all(run)
            trained = read_manifest(run.folder.checkpoints(1))
            events = [event for event in run.metrics.events() if event["event"] == "training"]
    assert summary is not None
    assert trained is not None
    rewards = [event["reward"] for event in events if event.get("reward") is not None]
    return {
        "recipe": recipe,
        "seed": seed,
        "labels": resolved.needs_labels,
        "reward": rewards,
        "reward_first": statistics.fmean(rewards[:ENDS]) if rewards else None,
        "reward_last": statistics.fmean(rewards[-ENDS:]) if rewards else None,
        **{
            phase: {mode: _headline(values) for mode, values in summary[phase].items()} for phase in ("before", "after")
        },
        "kept": trained.counts["best_step"],
        "steps": trained.counts["steps"],
        "reason": trained.counts["reason"],
        "seconds": time.monotonic() - started,
    }


def _headline(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: values[name] for name in ("accuracy", "ece", "brier", "auroc", "mean_tokens")}


def table(runs: Sequence[Mapping[str, Any]], *, ranges: bool) -> list[list[str]]:
    """One row a recipe: the mean over seeds, with ``ranges`` the smallest and largest where there are several."""
    rows = []
    for recipe in dict.fromkeys(run["recipe"] for run in runs):
        of_recipe = [run for run in runs if run["recipe"] == recipe]

        def cell(values: Sequence[float | None], form: str, scale: float = 1.0) -> str:
            known = [scale * value for value in values if value is not None]
            if not known:
                return ""
            mean = format(statistics.fmean(known), form)
            ends = f" ({min(known):{form}} to {max(known):{form}})" if ranges and min(known) < max(known) else ""
            return mean + ends

        rows.append(
            [
                recipe,
                "gold" if of_recipe[0]["labels"] else "none",
                *(cell([run[f"reward_{end}"] for run in of_recipe], ".3f") for end in ("first", "last")),
                *(
                    cell([run[phase]["greedy"][name] for run in of_recipe], form, scale)
                    for name, form, scale in (
                        ("accuracy", ".1f", 100.0),
                        ("ece", ".3f", 1.0),
                        ("mean_tokens", ".1f", 1.0),
                    )
                    for phase in ("before", "after")
                ),
                ", ".join(f"{run['kept']}/{run['steps']}" for run in of_recipe),
            ]
        )
    return rows


def to_markdown(rows: Sequence[Sequence[str]]) -> str:
    """The table as Markdown, under a line that says where the figures come from."""
    known = machine()
    lines = [f"Two cores, {known['processor']}, torch {known['torch']}, transformers {known['transformers']}.", ""]
    lines += [f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def write_page(page: Path, rows: Sequence[Sequence[str]]) -> None:
    """Put the table between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}\n\n{to_markdown(rows)}\n\n{MARKS[1]}{after}", encoding="utf-8")


def finished_runs(file: Path | None) -> list[dict[str, Any]]:
    """What an earlier call has written."""
    return json.loads(file.read_text(encoding="utf-8"))["runs"] if file is not None and file.exists() else []


def main() -> None:
    shipped = {name: resolve(name) for name in RECIPES}
    online = [name for name, recipe in shipped.items() if recipe.online is not None and recipe.reward_model is None]
    parser = options("Every online recipe on the bundled model")
    parser.add_argument("--recipes", nargs="+", default=online)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--page", type=Path, metavar="FILE", help="a Markdown page to write the table into")
    arguments = parser.parse_args()
    size, layer = (QUESTIONS, TEST), {}
    if arguments.quick:
        size, layer = (60, 30), {"online": {"max_steps": 4, "save_every": 2, "guard": {"every": 2}}}
        arguments.recipes, arguments.seeds = arguments.recipes[:3], arguments.seeds[:1]
    started, runs = time.monotonic(), finished_runs(arguments.json)
    known = {(run["recipe"], run["seed"]) for run in runs}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        tasks = [
            pool.submit(one_run, recipe, seed, *size, layer)
            for seed in arguments.seeds
            for recipe in arguments.recipes
            if (recipe, seed) not in known
        ]
        for done in as_completed(tasks):
            run = done.result()
            runs.append(run)
            write_json(arguments.json, {"runs": runs})
            print(
                f"{time.monotonic() - started:5.0f} s  {run['recipe']}, seed {run['seed']}: {run['reason']}", flush=True
            )
    runs = [run for run in runs if run["recipe"] in arguments.recipes and run["seed"] in arguments.seeds]
    runs.sort(key=lambda run: (arguments.recipes.index(run["recipe"]), run["seed"]))
    show("online recipes on the bundled model, greedy decoding, means", list(SHORT), table(runs, ranges=False))
    if arguments.page is not None:
        write_page(arguments.page, table(runs, ranges=True))


if __name__ == "__main__":
    main()
