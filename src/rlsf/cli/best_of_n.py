"""``rlsf best-of-n``: one answer out of N traces a question, and what N buys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich import box
from rich.console import Console
from rich.table import Table

from rlsf.cli.interrupt import resumed_by
from rlsf.cli.options import Overrides, RecipeOptions, Workers
from rlsf.cli.run import print_recipe
from rlsf.cli.width import wide_enough
from rlsf.errors import InputError
from rlsf.files import read_json
from rlsf.pipeline.best_of_n_config import BestOfNConfig, SampleColumns, own_defaults, require_meaning
from rlsf.recipes.resolve import merge, parse_overrides
from rlsf.sampling.executor import ExecutorOptions

if TYPE_CHECKING:
    from rlsf.pipeline.best_of_n import BestOfNFolder
    from rlsf.pipeline.manifest import Manifest

_RECIPE, _COLUMNS, _WORKERS = RecipeOptions(), SampleColumns(), ExecutorOptions()
AtLeastOne = Annotated[int | None, Parameter(validator=Number(gte=1))]


def best_of_n(
    *overrides: Overrides,
    data: str | None = None,
    traces: Path | None = None,
    n: Annotated[int | None, Parameter(name="--n", validator=Number(gte=1))] = None,
    signal: str | None = None,
    selectors: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True, negative="")] = None,
    subsets: AtLeastOne = None,
    columns: SampleColumns = _COLUMNS,
    output: Path | None = None,
    resume: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    dry_run: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    options: RecipeOptions = _RECIPE,
    workers: Workers = _WORKERS,
) -> None:
    """Sample N traces a question, or take those that exist, and choose one answer by confidence and by vote.

    Parameters
    ----------
    data:
        The questions, given like --prompts; with gold answers, accuracy over N is measured.
    traces:
        Choose among traces that exist: of rlsf (a Parquet file or folder, a run folder), or JSON lines or Parquet of
        another engine with prompts and completions.
    n:
        Traces a question, 64 by default; of --traces the first N.
    signal:
        Confidence signal by which traces are ranked and weighed, self_certainty by default.
    selectors:
        How one is chosen: majority, weighted, borda, argmax (by default all of them), or borda:P with an exponent P.
    subsets:
        Random subsets of a question's traces over which accuracy is averaged for each N, 32 by default.
    columns:
        Where another engine's files keep what.
    output:
        Run folder; by default runs/best-of-n-DATE-TIME, or NAME.best-of-n beside the traces.
    resume:
        Go on in the output folder where it stopped; nothing else need be said again.
    dry_run:
        Print the resolved recipe and stop.
    """
    from rlsf.pipeline.best_of_n import BestOfNFolder, best_of_n
    from rlsf.pipeline.context import Run

    if resume and output is None and traces is None:
        raise InputError("--resume needs the folder to go on with: --output FOLDER")
    folder = BestOfNFolder(output or _default_folder(traces))
    kept = folder.kept_config() if resume else {}
    if resume and not kept and traces is None and options.nothing_said:
        raise InputError(f"nothing to resume: nothing was begun in {folder.path}")
    config = _chosen_from(kept, traces, n, columns, selectors, subsets)
    if config.traces is None:
        overrides = overrides if n is None else (f"sampling.branches={n}", *overrides)
    else:
        require_meaning(parse_overrides(overrides))
    _require_one_sureness(signal, config)
    overrides = overrides if signal is None else (f"signal={signal}", *overrides)
    options = options.measuring(data, overrides)
    if resume and folder.recipe_file.is_file() and options.config is None:
        options = replace(options, config=folder.recipe_file)
    recipe = options.resolve((*own_defaults(options.config), *overrides))
    if dry_run:
        print_recipe(recipe)
        return
    if config.traces is None and recipe.model.path is None:
        raise InputError("nothing to choose from: say --model MODEL --data FILE, or --traces FILE_OR_FOLDER")
    with resumed_by("rlsf", "best-of-n", "--resume", "--output", folder.path, *workers.arguments()):
        manifest = best_of_n(Run(recipe, folder, executor=workers), folder, config, resume=resume)
    _show(manifest, folder)


def _chosen_from(
    kept: dict[str, Any],
    traces: Path | None,
    n: int | None,
    columns: SampleColumns,
    selectors: tuple[str, ...] | None,
    subsets: int | None,
) -> BestOfNConfig:
    """The configuration ``kept`` of a run that goes on, under what is said; an unknown selector is met at once."""
    said: dict[str, Any] = {
        "traces": None if traces is None else str(traces),
        "columns": columns.model_dump(exclude_none=True),
        "selectors": [name for text in selectors or () for name in text.split(",")],
        "subsets": subsets,
    }
    config = BestOfNConfig.model_validate(merge(kept, {key: value for key, value in said.items() if value}))
    config.chosen  # noqa: B018
    if config.traces is None and said["columns"]:
        raise InputError(
            f"--columns.{next(iter(said['columns']))} means nothing without --traces: it names a column of their files;"
            " those of the questions are --evaluation-data.columns.*"
        )
    return config if n is None or config.traces is None else config.model_copy(update={"first": n})


def _require_one_sureness(signal: str | None, config: BestOfNConfig) -> None:
    if signal is not None and config.columns.of_sureness:
        raise InputError(
            f"--signal {signal} means nothing where the column {config.columns.of_sureness!r} says how sure each"
            " completion is: leave one of the two out"
        )


def _default_folder(traces: Path | None) -> Path:
    from rlsf.pipeline.trace_files import beside

    return Path("runs") / f"best-of-n-{datetime.now():%Y%m%d-%H%M%S}" if traces is None else beside(traces, "best-of-n")


def _show(manifest: Manifest, folder: BestOfNFolder) -> None:
    from rlsf.pipeline.selection import ANSWERS, CURVES

    console, found = Console(), manifest.counts
    lines = [f"{found['traces']:,} traces of {found['questions']:,} questions"]
    if found["unanswered"]:
        lines.append(f"{found['unanswered']:,} of them without any answer")
    if found["without_confidence"]:
        lines.append(
            f"{found['without_confidence']:,} traces with an answer have no confidence: they come last in rank"
        )
    if found["undecided"]:
        lines.append(f"{found['undecided']:,} answers could not be graded in time and count as wrong")
    _say(console, lines)
    if found["labelled"]:
        curves = read_json(folder.selection / CURVES)
        _say(console, list(_bounds(curves, found)))
        wide_enough(console, 120).print(_table(curves))
        _say(console, [f"curves  {folder.selection / CURVES}"])
    else:
        _say(console, ["no gold answers: nothing was measured (--data with answers gives accuracy over N)"])
    _say(console, [f"answers  {folder.selection / ANSWERS}"])


def _bounds(curves: dict[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """What the figures leave out."""
    if curves["questions"] < found["questions"]:
        yield f"gold answers for {curves['questions']:,} of these questions alone: accuracy is over them"
    if curves["sizes"][-1] < found.get("most_traces", 0):
        yield (
            f"N goes up to {curves['sizes'][-1]}, the traces of question {curves['fewest']!r}; others have up to"
            f" {found['most_traces']:,}"
        )


def _say(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _table(curves: dict[str, Any]) -> Table:
    """Accuracy in per cent by selector and N, and the gain over the majority at the largest N."""
    table = Table(title="Accuracy over N, %", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("selector", no_wrap=True)
    for size in curves["sizes"]:
        table.add_column(f"N={size}", justify="right", no_wrap=True)
    table.add_column("over majority (95 %)", justify="right", no_wrap=True)
    rows = {**curves["accuracy"], "any right": curves["oracle"]}
    for name, estimates in rows.items():
        gain = curves["gain"].get(name)
        last = "" if gain is None else f"{_points(gain[-1]['value'])} ({' to '.join(_ends(gain[-1]))})"
        table.add_row(name, *(f"{100 * estimate['value']:.1f}" for estimate in estimates), last)
    return table


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _ends(estimate: dict[str, float]) -> list[str]:
    return [_points(estimate["low"]), _points(estimate["high"])]
