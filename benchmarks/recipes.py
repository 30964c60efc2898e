"""Every recipe on the bundled model side by side: accuracy, calibration and cost, with intervals, and what is special.

python benchmarks/recipes.py [--quick] [--json FILE] [--output FOLDER] [--recipes A B ...] [--seeds 0 1 2]
                             [--model FOLDER] [--budget CAPS] [--curve] [--workers N] [--page docs/results.md]
                             [--pages docs/recipes] [--readme README.md] [--figures docs/figures]

``rlsf compare --demo``: the shipped recipes with the demo's settings under one budget, 400 generated questions to learn
from, 500 others to measure on; beside it ``rc-rm``, which trains a reward model and no policy. A run is one thread.
``--page`` writes three tables between the marks of a Markdown page: of policies, of reward models on held-out pairs,
and of turns; ``--pages`` a table into the page of each recipe, ``--readme`` one short table. ``--figures`` draws
accuracy against ECE, and over the tokens spent, with ``--curve`` each method's way there. What FOLDER holds already is
not done again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from _cells import Cells
from _comparison_figures import write_figures
from _page import Table, write_tables
from _shared import options, show, write_json
from rlsf.cli.compare import CompareOptions, plan_of
from rlsf.cli.demo import data_layer
from rlsf.demo.settings import demo_settings
from rlsf.evaluation.comparison_schema import Comparison, MethodSummary
from rlsf.pipeline.comparing import compare, threads_of, worker_count_of
from rlsf.pipeline.comparing_display import ComparisonDisplay
from rlsf.pipeline.comparing_folder import ComparisonFolder, read_ended
from rlsf.pipeline.comparing_jobs import Job
from rlsf.pipeline.comparing_plan import BEFORE, Plan, chosen_recipes
from rlsf.pipeline.comparing_processes import work_off
from rlsf.pipeline.evaluation import TURNS as DIALOGUES
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import read_manifest
from rlsf.recipes import resolve
from rlsf.recipes.resolve import merge
from rlsf.report.comparison import ACCURACY, AUROC, BRIER, ECE, TOKENS, Metric
from rlsf.report.comparison_table import comparison_table
from rlsf.rewards.reward_model import EVALUATION

#: Trains a reward model alone: no row of a comparison of policies.
REWARD_MODEL = "rc-rm"
PHASES = ("before", "after")
METRICS = (ACCURACY, ECE, BRIER, AUROC, TOKENS)
#: What is spent: name in ``spent``, divisor, form, heading.
COSTS = (
    ("generated_tokens", 1e3, ".0f", "thousand tokens sampled"),
    ("training_tokens", 1e3, ".0f", "thousand trained on"),
    ("seconds_learning", 1.0, ".0f", "seconds of learning"),
)
FIGURES = ("accuracy, %", "ECE", "Brier", "AUROC", "tokens")
POLICIES = ("recipe", "kind", "labels", *FIGURES, *(cost[3] for cost in COSTS), "steps kept")
SUMMARY = ("method", "learns from", "accuracy, %", "ECE", "AUROC", "tokens", "thousand tokens sampled")
LEARNS_FROM = {"start": "", "self-feedback": "itself", "labelled": "gold answers", "bound": "itself, a lower bound"}
MEASURED = ("policy", *FIGURES, *(cost[3] for cost in COSTS))
REWARD_MODELS = (
    "recipe",
    "held-out pairs",
    "accuracy, %",
    "where the chosen is shorter",
    "length accuracy",
    "limit accuracy",
    "as trained",
    "ECE",
    "correlation with length",
)
TURNS = ("recipe", "policy", "accuracy of each turn, %", "majority", "confidence vote", "any turn right")
#: The same for a terminal.
SHORT = {
    "reward models": ("recipe", "pairs", "acc., %", "shorter", "length", "limit", "trained", "ECE", "corr."),
    "turns": ("recipe", "policy", "turns, %", "majority", "votes", "any"),
}
#: Of every run; it lets most recipes do what the demo's settings say.
BUDGET = "generated-tokens=200000,training-tokens=300000"
#: What ``--quick`` sets for all recipes, and which it compares.
QUICK = (
    *("--prompts.limit", "60", "--evaluation_data.limit", "30", "--evaluation.bootstrap", "200"),
    *("--training.max_steps", "4", "--training.save_every", "4", "--training.selection.enabled", "false"),
    *("--online.max_steps", "4", "--online.save_every", "2", "--online.guard.every", "2"),
    *("--reward_model.max_steps", "4", "--reward_model.save_every", "4"),
)
QUICK_RECIPES = ["rlsf", "rlsf-rm"]


def estimate(method: MethodSummary, metric: Metric) -> str:
    """A figure with its 95 % interval: over seeds and questions."""
    figure = method.figures.get(metric.key)
    if figure is None or figure.value is None:
        return ""
    value = f"{figure.value * metric.scale:.{metric.digits}f}"
    if figure.interval is None:
        return value
    low, high = (f"{bound * metric.scale:.{metric.digits}f}" for bound in figure.interval)
    return f"{value} ({low} to {high})"


def costs(method: MethodSummary) -> list[str]:
    """What a run of the method spends on learning, the mean over seeds; empty for what learns nothing."""
    if method.kind == "start":
        return [""] * len(COSTS)
    return [f"{method.spent.get(name, 0.0) / divisor:{form}}" for name, divisor, form, _ in COSTS]


def policies(comparison: Comparison, folder: ComparisonFolder) -> list[list[str]]:
    """One row a method."""
    return [
        [
            _decoded(method),
            method.kind,
            "gold" if method.needs_labels else "none",
            *(estimate(method, metric) for metric in METRICS),
            *costs(method),
            ", ".join(filter(None, (_steps_kept(folder.run(method.recipe, seed)) for seed in method.seeds))),
        ]
        for method in comparison.methods
    ]


def best_first(comparison: Comparison) -> list[list[str]]:
    """One short row a method, the most accurate first."""
    figures, rows = (ACCURACY, ECE, AUROC, TOKENS), []
    known = [method for method in comparison.methods if method.figures]
    for method in sorted(known, key=lambda method: -(method.figures["accuracy"].value or 0.0)):
        upper = method.kind == "bound" and method.needs_labels
        learns_from = "gold answers, an upper bound" if upper else LEARNS_FROM[method.kind]
        name = "*the model as given*" if method.kind == "start" else f"`{_decoded(method)}`"
        rows.append([name, learns_from, *(estimate(method, metric) for metric in figures), costs(method)[0]])
    return rows


def _decoded(method: MethodSummary) -> str:
    return method.recipe if method.mode == "greedy" else f"{method.recipe} ({method.mode})"


def _steps_kept(run: Path) -> str:
    """``40/60`` of the last round, where a policy was trained."""
    rounds = sorted((run / "checkpoints").glob("round-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    trained = read_manifest(rounds[-1]) if rounds else None
    return "" if trained is None else f"{trained.counts['best_step']}/{trained.counts['steps']}"


def reward_models(folder: ComparisonFolder, seeds: Sequence[int], *, ranges: bool) -> list[list[str]]:
    """One row a recipe that trains a reward model: pairs of prompts that it has not seen."""
    rows = []
    for recipe in ("rlsf-rm", REWARD_MODEL):
        files = [RunFolder(place(folder, recipe, seed)).reward_model / EVALUATION for seed in seeds]
        cell = Cells([json.loads(file.read_text()) for file in files if file.exists()], ranges=ranges)
        if cell(".0f", "pairs"):
            rows.append(
                [
                    recipe,
                    cell(".0f", "pairs"),
                    cell(".1f", "accuracy", scale=100),
                    cell(".1f", "by_length", "shorter", "accuracy", scale=100),
                    cell(".1f", "length_bias", "length_accuracy", "accuracy", scale=100),
                    cell(".1f", "length_bias", "limit_accuracy", "accuracy", scale=100),
                    cell(".1f", "length_bias", "trained_accuracy", "accuracy", scale=100),
                    cell(".3f", "ece"),
                    cell("+.2f", "length_correlation"),
                ]
            )
    return rows


def turns(
    folder: ComparisonFolder, recipes: Sequence[str], seeds: Sequence[int], *, ranges: bool
) -> Iterator[list[str]]:
    """Two rows a recipe of dialogues: what each turn and the votes over them are worth, before and after."""
    for recipe in recipes:
        for phase in PHASES:
            files = [RunFolder(folder.run(recipe, seed)).evaluation(phase) / DIALOGUES for seed in seeds]
            found: list[Mapping[str, Any]] = [json.loads(file.read_text()) for file in files if file.exists()]
            if found:
                cell = Cells(found, ranges=ranges)
                each = ", ".join(cell(".1f", "accuracy", turn, scale=100) for turn in range(found[0]["turns"]))
                votes = (cell(".1f", name, scale=100) for name in ("majority", "weighted", "oracle"))
                yield [recipe, phase, each, *votes]


def place(folder: ComparisonFolder, recipe: str, seed: int) -> Path:
    """Where a run is; that of the reward model alone lies beside the comparison."""
    return folder.path / REWARD_MODEL / f"seed-{seed}" if recipe == REWARD_MODEL else folder.run(recipe, seed)


def reward_model_runs(plan: Plan, folder: ComparisonFolder, model: Path | None, workers: int | None) -> None:
    """The runs that train a reward model and no policy."""
    data = data_layer(folder.path.parent, labelled=False, model=model)
    settings = merge(demo_settings(REWARD_MODEL, model), {"budget": plan.start.budget.model_dump()})
    recipe = resolve(REWARD_MODEL, None, merge(settings, data))
    jobs = [
        Job(f"{REWARD_MODEL}, seed {seed}", recipe.model_copy(update={"seed": seed}), place(folder, REWARD_MODEL, seed))
        for seed in plan.seeds
    ]
    threads = threads_of(recipe.model)
    with ComparisonDisplay() as display:
        count = workers or worker_count_of(recipe.model, threads)
        for end in work_off(jobs, count, threads, display, lambda job: read_ended(job.folder)).values():
            if end.failure is not None:
                raise SystemExit(f"{REWARD_MODEL}: {end.failure}")


def minutes(folder: ComparisonFolder) -> str:
    """What all pieces of work took together, whenever they were done."""
    ends = [end for path in folder.path.rglob("ended.json") if (end := read_ended(path.parent)) is not None]
    return f"{len(ends)} processes of one thread took {sum(end.seconds for end in ends) / 60:.0f} minutes together."


def measured(comparison: Comparison, method: MethodSummary) -> Table:
    """The table of a recipe's page: the model as given, and what became of it."""
    start = next(one for one in comparison.methods if one.kind == "start")
    rows = [
        ["the model as given", *(estimate(start, metric) for metric in METRICS), *costs(start)],
        [f"`{method.recipe}`", *(estimate(method, metric) for metric in METRICS), *costs(method)],
    ]
    return MEASURED, rows


def write_pages(
    comparison: Comparison, models: Sequence[Sequence[str]], pages: Path, took: str, environment: Mapping[str, Any]
) -> None:
    """A table into the page of every recipe that was run."""
    tables = {
        method.recipe: measured(comparison, method)
        for method in comparison.methods
        if method.recipe != BEFORE and method.figures
    }
    of_model = [row for row in models if row[0] == REWARD_MODEL]
    if of_model:
        tables[REWARD_MODEL] = (REWARD_MODELS, of_model)
    for name, table in tables.items():
        write_tables(pages / f"{name}.md", {"measured": table}, took, environment)


def environment_of(folder: ComparisonFolder, seeds: Sequence[int]) -> Mapping[str, Any]:
    """The machine that the comparison was done on, as the model as given was measured there."""
    return json.loads(RunFolder(folder.run(BEFORE, seeds[0])).environment_file.read_text(encoding="utf-8"))


def main() -> None:
    parser = options("Every recipe on the bundled model")
    parser.add_argument("--recipes", nargs="+", default=[*chosen_recipes("all"), REWARD_MODEL])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--model", type=Path, help="another model that rlsf.demo.train has made, on its own questions")
    parser.add_argument("--budget", default=BUDGET, help="caps of what each run may spend, as for rlsf compare")
    parser.add_argument("--curve", action="store_true", help="measure every checkpoint: accuracy by cost on the way")
    parser.add_argument("--workers", type=int, help="runs at a time, by default one a core")
    parser.add_argument("--output", type=Path, default=Path("comparisons/recipes"), help="where all runs are kept")
    parser.add_argument("--page", type=Path, metavar="FILE", help="a Markdown page to write the tables into")
    parser.add_argument("--pages", type=Path, metavar="FOLDER", help="the pages of the recipes, NAME.md each")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="a Markdown page for one short table")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="draw the comparison into two SVG files there")
    arguments = parser.parse_args()
    if not arguments.quick:
        compared(arguments, ())
        return
    arguments.recipes, arguments.seeds = QUICK_RECIPES, arguments.seeds[:1]
    with tempfile.TemporaryDirectory() as temporary:
        arguments.output = Path(temporary) / "quick"
        compared(arguments, QUICK)


def compared(arguments: argparse.Namespace, overrides: tuple[str, ...]) -> None:
    """Do what is not done yet, and show and write all tables."""
    folder = ComparisonFolder(arguments.output)
    asked = CompareOptions(
        demo=True,
        model=None if arguments.model is None else str(arguments.model),
        recipes=",".join(name for name in arguments.recipes if name != REWARD_MODEL),
        seeds=",".join(map(str, arguments.seeds)) + ",",
        budget=arguments.budget,
        curve=arguments.curve,
    )
    plan = plan_of(asked, overrides, folder, resume=True)
    comparison = compare(plan, folder.path, resume=True, workers=arguments.workers)
    if REWARD_MODEL in arguments.recipes:
        reward_model_runs(plan, folder, arguments.model, arguments.workers)
    write_json(arguments.json, comparison.model_dump(mode="json"))
    took, models = minutes(folder), reward_models(folder, plan.seeds, ranges=True)
    environment = environment_of(folder, plan.seeds)
    tables: dict[str, Table] = {
        "policies": (POLICIES, policies(comparison, folder)),
        "reward models": (REWARD_MODELS, models),
        "turns": (TURNS, list(turns(folder, arguments.recipes, plan.seeds, ranges=True))),
    }
    Console(width=120).print(comparison_table(comparison))
    for name, header in SHORT.items():
        if tables[name][1]:
            show(f"{name} on the bundled model", list(header), [list(row) for row in tables[name][1]])
    print(took)
    if arguments.page is not None:
        write_tables(arguments.page, {name: table for name, table in tables.items() if table[1]}, took, environment)
    if arguments.readme is not None:
        write_tables(arguments.readme, {"comparison": (SUMMARY, best_first(comparison))}, took, environment)
    if arguments.figures is not None:
        write_figures(comparison, arguments.figures)
    if arguments.pages is not None:
        write_pages(comparison, models, arguments.pages, took, environment)


if __name__ == "__main__":
    main()
