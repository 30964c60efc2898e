"""Every recipe on the bundled model: held-out accuracy and calibration before and after, rewards, by seed.

python benchmarks/recipes.py [--quick] [--json FILE] [--page docs/results.md] [--recipes A B ...] [--seeds 0 1 2]

All that train a policy or a reward model by default. Each run is that of `rlsf demo --recipe NAME --seed S`: the
shipped recipe with the demo's settings, 400 generated questions to learn from, 500 others to measure on. Two runs at a
time, each on one thread. ``--page`` writes three tables between the marks of a Markdown page: of policies, of reward
models on held-out pairs, and of turns. Runs that ``--json FILE`` holds already are not done again.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from _page import write_tables
from _shared import finished_runs, options, show, write_json
from rlsf.demo import MODEL_DIR, write_data
from rlsf.demo.settings import demo_settings
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import TURNS as DIALOGUES
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import read_manifest
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.pipeline.run import run_all
from rlsf.recipes import RECIPES, resolve
from rlsf.recipes.resolve import merge
from rlsf.rewards.reward_model import EVALUATION

QUESTIONS, TEST = 400, 500
#: Steps over which the reward at either end is averaged.
ENDS = 5
PHASES = ("before", "after")
POLICIES = (
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
REWARD_MODELS = (
    "recipe",
    "held-out pairs",
    "accuracy, %",
    "where the chosen is shorter",
    "length accuracy",
    "limit accuracy",
    "ECE",
    "correlation with length",
)
TURNS = ("recipe", "policy", "accuracy of each turn, %", "majority", "confidence vote", "any turn right")


def one_run(recipe: str, seed: int, questions: int, test: int, *, quick: bool) -> dict[str, Any]:
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
        if quick:
            data |= {section: settings for section, settings in QUICK.items() if getattr(resolved, section) is not None}
        resolved = resolve(recipe, None, merge(demo_settings(recipe), data))
        with Run(resolved, RunFolder(folder / "run"), silent).open(resume=False) as run:
            summary = run_all(run)
            # The last round's; a reward model may be all that was trained.
            trained = read_manifest(run.folder.checkpoints(resolved.rounds))
            events = [event for event in run.metrics.events() if event["event"] == "training"]
            measured = run.folder.reward_model / EVALUATION
            reward_model = json.loads(measured.read_text()) if measured.exists() else None
            dialogues = {phase: run.folder.evaluation(phase) / DIALOGUES for phase in PHASES}
            of_turns = {phase: json.loads(file.read_text()) for phase, file in dialogues.items() if file.exists()}
    assert summary is not None
    rewards = [event["reward"] for event in events if event.get("reward") is not None]
    return {
        "recipe": recipe,
        "seed": seed,
        "labels": resolved.needs_labels,
        "reward_first": statistics.fmean(rewards[:ENDS]) if rewards else None,
        "reward_last": statistics.fmean(rewards[-ENDS:]) if rewards else None,
        "modes": {
            phase: {mode: _headline(values) for mode, values in summary[phase].items()}
            for phase in PHASES
            if summary.get(phase)
        },
        "reward_model": reward_model,
        "turns": of_turns,
        **({} if trained is None else {name: trained.counts[name] for name in ("best_step", "steps", "reason")}),
        "seconds": time.monotonic() - started,
    }


def _headline(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: values[name] for name in ("accuracy", "ece", "brier", "auroc", "mean_tokens")}


class Cells:
    """Figures of runs with different seeds as a table shows them: means, with ``ranges`` and the ends."""

    def __init__(self, runs: Sequence[Mapping[str, Any]], *, ranges: bool) -> None:
        self._runs = runs
        self._ranges = ranges

    def __call__(self, form: str, *path: str | int, scale: float = 1.0) -> str:
        """The figure at ``path`` of every run; empty where none has it."""
        values = [self._at(run, path) for run in self._runs]
        known = [scale * value for value in values if value is not None]
        if not known:
            return ""
        ends = (
            f" ({min(known):{form}} to {max(known):{form}})"
            if self._ranges and f"{min(known):{form}}" != f"{max(known):{form}}"
            else ""
        )
        return format(statistics.fmean(known), form) + ends

    @staticmethod
    def _at(run: Any, path: Sequence[str | int]) -> float | None:
        for key in path:
            run = run.get(key) if isinstance(run, Mapping) else run[key]
            if run is None:
                return None
        return run


def by_recipe(runs: Sequence[Mapping[str, Any]], holds: str) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """The runs of each recipe that hold figures under a key."""
    for recipe in dict.fromkeys(run["recipe"] for run in runs):
        of_recipe = [run for run in runs if run["recipe"] == recipe and run.get(holds)]
        if of_recipe:
            yield recipe, of_recipe


def policies(runs: Sequence[Mapping[str, Any]], *, ranges: bool) -> list[list[str]]:
    """One row a recipe that trains a policy: greedy decoding before and after, the mean over seeds."""
    rows = []
    for recipe, of_recipe in by_recipe(runs, "steps"):
        cell = Cells(of_recipe, ranges=ranges)
        figures = (("accuracy", ".1f", 100.0), ("ece", ".3f", 1.0), ("mean_tokens", ".1f", 1.0))
        rows.append(
            [
                recipe,
                "gold" if of_recipe[0]["labels"] else "none",
                cell(".3f", "reward_first"),
                cell(".3f", "reward_last"),
                *(
                    cell(form, "modes", phase, "greedy", name, scale=scale)
                    for name, form, scale in figures
                    for phase in PHASES
                ),
                ", ".join(f"{run['best_step']}/{run['steps']}" for run in of_recipe),
            ]
        )
    return rows


def reward_models(runs: Sequence[Mapping[str, Any]], *, ranges: bool) -> list[list[str]]:
    """One row a recipe that trains a reward model: pairs of prompts that it has not seen."""
    rows = []
    for recipe, of_recipe in by_recipe(runs, "reward_model"):
        cell = Cells([run["reward_model"] for run in of_recipe], ranges=ranges)
        rows.append(
            [
                recipe,
                cell(".0f", "pairs"),
                cell(".1f", "accuracy", scale=100),
                cell(".1f", "by_length", "shorter", "accuracy", scale=100),
                cell(".1f", "length_bias", "length_accuracy", "accuracy", scale=100),
                cell(".1f", "length_bias", "limit_accuracy", "accuracy", scale=100),
                cell(".3f", "ece"),
                cell("+.2f", "length_correlation"),
            ]
        )
    return rows


def turns(runs: Sequence[Mapping[str, Any]], *, ranges: bool) -> list[list[str]]:
    """Two rows a recipe of dialogues: what each turn and the votes over them are worth, before and after."""
    rows = []
    for recipe, of_recipe in by_recipe(runs, "turns"):
        for phase in PHASES:
            cell = Cells([run["turns"][phase] for run in of_recipe], ranges=ranges)
            each = range(of_recipe[0]["turns"][phase]["turns"])
            rows.append(
                [
                    recipe,
                    phase,
                    ", ".join(cell(".1f", "accuracy", turn, scale=100) for turn in each),
                    *(cell(".1f", name, scale=100) for name in ("majority", "weighted", "oracle")),
                ]
            )
    return rows


TABLES: dict[str, tuple[Sequence[str], Callable[..., list[list[str]]]]] = {
    "policies": (POLICIES, policies),
    "reward models": (REWARD_MODELS, reward_models),
    "turns": (TURNS, turns),
}


#: What ``--quick`` sets, by the section of a recipe.
QUICK: dict[str, dict[str, Any]] = {
    "online": {"max_steps": 4, "save_every": 2, "guard": {"every": 2}},
    "reward_model": {"max_steps": 4, "save_every": 4},
    "introspection": {"training": {"max_steps": 4, "save_every": 2, "selection": None}},
}


def main() -> None:
    parser = options("Every recipe on the bundled model")
    parser.add_argument("--recipes", nargs="+", default=[name for name in RECIPES if resolve(name).acceptance is None])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--page", type=Path, metavar="FILE", help="a Markdown page to write the tables into")
    arguments = parser.parse_args()
    size = (QUESTIONS, TEST)
    if arguments.quick:
        size = (60, 30)
        arguments.recipes, arguments.seeds = ["rlsf-rm", "rlsf-online", "rc-rm"], arguments.seeds[:1]
    started, runs = time.monotonic(), finished_runs(arguments.json)
    known = {(run["recipe"], run["seed"]) for run in runs}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        tasks = [
            pool.submit(one_run, recipe, seed, *size, quick=arguments.quick)
            for seed in arguments.seeds
            for recipe in arguments.recipes
            if (recipe, seed) not in known
        ]
        for done in as_completed(tasks):
            run = done.result()
            runs.append(run)
            write_json(arguments.json, {"runs": runs})
            print(f"{time.monotonic() - started:5.0f} s  {run['recipe']}, seed {run['seed']}", flush=True)
    runs = [run for run in runs if run["recipe"] in arguments.recipes and run["seed"] in arguments.seeds]
    runs.sort(key=lambda run: (arguments.recipes.index(run["recipe"]), run["seed"]))
    for name, (header, rows) in TABLES.items():
        found = rows(runs, ranges=False)
        if found:
            show(f"{name} on the bundled model, means", list(SHORT if header is POLICIES else header), found)
    if arguments.page is not None:
        found = {name: (header, rows(runs, ranges=True)) for name, (header, rows) in TABLES.items()}
        write_tables(arguments.page, found)


if __name__ == "__main__":
    main()
