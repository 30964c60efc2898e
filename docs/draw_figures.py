"""Draw the pages' figures: ``python docs/draw_figures.py RUN_FOLDER`` the README's, from a run; ``python
docs/draw_figures.py FILE.json`` that of guard.md or those of signals-study.md, from what ``benchmarks/guard.py`` or
``benchmarks/signals.py --json FILE.json`` measured.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rlsf.evaluation.signal_schema import SignalStudy
from rlsf.files import read_json
from rlsf.report.comparison import compare
from rlsf.report.figures import curve_rows, headline_figures
from rlsf.report.signal_page import by_auroc
from rlsf.report.signal_plots import measure_plot
from rlsf.report.svg import AFTER, BEFORE, RIGHT, house_style, inline_svg, standalone_svg

FIGURES = Path(__file__).parent / "figures"
#: One a seed: colour never speaks alone.
SEEDS: tuple[dict[str, Any], ...] = (
    {"color": AFTER, "marker": "o"},
    {"color": BEFORE, "marker": "s"},
    {"color": RIGHT, "marker": "^"},
)
#: Steps over which a reward is averaged: one step's few prompts are noisy.
SMOOTHED = 5


def from_run(run: Path) -> dict[str, str]:
    """Accuracy of all modes; reliability, and risk over coverage, of greedy decoding."""
    summary = read_json(run / "evaluation" / "summary.json")
    rows = {row.key: row.drawings[0] for row in curve_rows(summary)}
    drawings = {
        "accuracy": headline_figures(compare(summary))[0],
        "reliability": rows["reliability"],
        "risk-coverage": rows["risk_coverage"],
    }
    return {name: drawing.svg for name, drawing in drawings.items()}


def from_guard(measured: Mapping[str, Any]) -> dict[str, str]:
    """Held-out accuracy above and reward below, over the steps of unguarded training, one column a recipe.

    A curve is a seed; its mark is the step that the guard kept in the same training with the guard.
    """
    runs = [run for run in measured["runs"] if not run["guarded"]]
    kept = {(pair["recipe"], pair["seed"]): pair["kept_step"] for pair in measured["pairs"]}
    recipes = list(dict.fromkeys(run["recipe"] for run in runs))
    with house_style():
        figure = Figure(figsize=(0.6 + 2.2 * len(recipes), 3.9), layout="constrained")
        grid = figure.subplots(2, len(recipes), sharex="col", squeeze=False)
        for column, recipe in enumerate(recipes):
            of_recipe = [run for run in runs if run["recipe"] == recipe]
            for run, style in zip(of_recipe, SEEDS, strict=False):
                step = kept.get((recipe, run["seed"]))
                label = f"seed {run['seed']}"
                _curve(grid[0, column], [(probe["step"], probe["accuracy"]) for probe in run["probes"]], step, style)
                _curve(grid[1, column], _smooth(run["trajectory"]), step, style, label)
            _name_axes(grid[0, column], grid[1, column], recipe, first=column == 0)
        figure.legend(*grid[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(SEEDS))
        title = "Accuracy and reward over the steps of unguarded training; marks are the steps that the guard kept"
        return {"guard": inline_svg(figure, "guard", title)}


def from_signals(measured: Mapping[str, Any]) -> dict[str, str]:
    """AUROC by signal over all traces, and among worked traces of arithmetic."""
    drawings = {}
    for name, part, measure in (
        ("signals-all", "study", "auroc"),
        ("signals-worked-arithmetic", "arithmetic", "worked"),
    ):
        study = SignalStudy.model_validate(measured[part])
        drawings[name] = measure_plot(study, measure, name, by_auroc(study))
    return drawings


def _smooth(trajectory: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """The reward averaged over the last steps up to each."""
    known = [(entry["step"], entry["reward"]) for entry in trajectory if entry.get("reward") is not None]
    windows = (known[max(0, place + 1 - SMOOTHED) : place + 1] for place in range(len(known)))
    return [(window[-1][0], sum(reward for _, reward in window) / len(window)) for window in windows]


def _curve(
    axes: Axes, points: Sequence[tuple[int, float]], kept: int | None, style: Mapping[str, Any], label: str = ""
) -> None:
    """A line with one mark, at the step kept; a start that was kept has no reward yet, and marks the first one."""
    steps, values = zip(*points, strict=True)
    marked = [] if kept is None else [steps.index(max(kept, steps[0]))]
    axes.plot(steps, values, linewidth=1.5, markersize=6.5, markevery=marked, clip_on=False, label=label, **style)


def _name_axes(above: Axes, below: Axes, recipe: str, *, first: bool) -> None:
    above.set_title(recipe)
    above.set_ylim(0, 1)
    above.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="\u202f%"))
    below.set_xlabel("Optimiser step")
    below.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    below.yaxis.set_major_locator(MaxNLocator(4))
    if first:
        above.set_ylabel("Held-out accuracy")
        below.set_ylabel(f"Reward, mean of {SMOOTHED} steps")


def main(source: Path) -> None:
    """Draw what ``source`` has: a run's folder, or the file of a benchmark."""
    if source.is_file():
        measured = read_json(source)
        drawings = from_signals(measured) if "study" in measured else from_guard(measured)
    else:
        drawings = from_run(source)
    FIGURES.mkdir(exist_ok=True)
    for name, svg in drawings.items():
        (FIGURES / f"{name}.svg").write_text(standalone_svg(svg), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
