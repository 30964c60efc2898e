"""``rlsf compare``: methods side by side, on the same questions, from the same model, under the same budget."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from rlsf.cli.demo import data_layer
from rlsf.cli.interrupt import resumed_by
from rlsf.cli.options import RecipeOptions
from rlsf.cli.width import wide_enough
from rlsf.errors import InputError, near_names
from rlsf.recipes.resolve import Layer, merge, parse_overrides, resolve
from rlsf.training.budget_config import BudgetConfig

if TYPE_CHECKING:
    from rlsf.evaluation.comparison_schema import Comparison
    from rlsf.pipeline.comparing_folder import ComparisonFolder
    from rlsf.pipeline.comparing_plan import Plan

_NUMBERS = ("prompts", "samples a prompt", "steps at most")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class CompareOptions:
    """What is compared."""

    recipes: str | None = None
    """Names of methods, one,two,three; all: every one that trains a policy or tries again. By default all."""
    model: str | None = None
    """Model that every method starts from: a folder or a hub id; with --demo one that rlsf.demo.train has made."""
    data: str | None = None
    """A preset (gsm8k) with a split to learn from and one to measure on; else say --prompts and --eval-data."""
    prompts: str | None = None
    """Questions to learn from, as for `rlsf run`. Gold answers are read only for methods that learn from them."""
    eval_data: str | None = None
    """Labelled questions to measure on, as for `rlsf run`."""
    demo: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """The bundled model or --model, its generated questions and the demo's settings, in the place of data."""
    seeds: str | None = None
    """How many seeds (3: 0, 1 and 2), or which (0,5). By default 3."""
    budget: str | None = None
    """Caps of what each run may spend on learning: generated-tokens=200000,training-tokens=300000, or one of them."""
    curve: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Keep every checkpoint of every run and measure it on the held-out questions: accuracy by cost on the way."""

    @property
    def names_data(self) -> bool:
        """Whether the command line says from what and on what."""
        return self.demo or any((self.model, self.data, self.prompts, self.eval_data))

    def arguments(self) -> tuple[str, ...]:
        """These options as they are said on a command line."""
        said = {f"--{field.name.replace('_', '-')}": getattr(self, field.name) for field in fields(self)}
        words = (word for name, value in said.items() if value for word in (name, value))
        return tuple(word for word in words if word is not True)

    def layer(self) -> Layer:
        """Model, questions and budget as a layer of every recipe.

        Raises ``InputError`` where they are incomplete or contradict each other.
        """
        self._require_sense()
        layer = RecipeOptions(
            model=None if self.demo else self.model,
            prompts=self.data or self.prompts,
            eval_data=self.data or self.eval_data,
        ).layer()
        return merge(layer, {"budget": parse_budget(self.budget)} if self.budget else {})

    def _require_sense(self) -> None:
        from rlsf.prompts.presets import PRESETS

        if self.demo and (self.data or self.prompts or self.eval_data):
            raise InputError("--demo has its own questions: leave out --data, --prompts and --eval-data")
        if self.data is not None and (self.prompts is not None or self.eval_data is not None):
            raise InputError("--data has both kinds of questions: leave out --prompts and --eval-data, or --data")
        if self.data is not None and self.data not in PRESETS:
            raise InputError(
                f"--data {self.data}: only a preset ({', '.join(PRESETS)}) says which questions to learn from and which"
                " to measure on: say --prompts and --eval-data"
            )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class WhereOptions:
    """Where a comparison is done, and how much at a time."""

    output: Path | None = None
    """Folder of the comparison; by default comparisons/DATE-TIME."""
    resume: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Go on with the comparison in --output where it stopped; its question need not be said again."""
    workers: int | None = None
    """Runs at a time, each in a process of its own; by default as many as the machine has room for, one on a GPU."""
    dry_run: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Print what would be run and stop."""


_WHAT, _WHERE = CompareOptions(), WhereOptions()
Settings = Annotated[
    str,
    Parameter(
        name="SECTION.KEY=VALUE",
        allow_leading_hyphen=True,
        help="Any key of a recipe, set for all methods. Where a recipe has set the section to null, null it stays.",
    ),
]


def compare(*overrides: Settings, what: CompareOptions = _WHAT, where: WhereOptions = _WHERE) -> None:
    """Run methods with several seeds on the same questions and put accuracy, calibration and cost side by side.

    Everything is written into one folder: the runs, comparison.json, comparison.html and comparison.md.
    """
    from rlsf.pipeline.comparing_folder import ComparisonFolder

    if where.workers is not None and where.workers < 1:
        raise InputError(f"--workers {where.workers}: at least one")
    folder = ComparisonFolder(where.output or Path("comparisons") / f"{datetime.now():%Y%m%d-%H%M%S}")
    plan = plan_of(what, overrides, folder, resume=where.resume)
    console = Console()
    if where.dry_run:
        _show_plan(plan, console)
        return
    from rlsf.pipeline.comparing import compare as compare_runs

    go_on = ["rlsf", "compare", "--resume", "--output", folder.path]
    go_on += [] if where.workers is None else ["--workers", where.workers]
    with resumed_by(*go_on):
        comparison = compare_runs(plan, folder.path, resume=where.resume, workers=where.workers)
    _show(comparison, folder, console)


def plan_of(what: CompareOptions, overrides: tuple[str, ...], folder: ComparisonFolder, *, resume: bool) -> Plan:
    """The plan of a command line. A resumed comparison begins from its own, so that nothing need be said again.

    Raises ``InputError`` for what cannot be compared, and where there is nothing to resume.
    """
    from rlsf.pipeline.comparing_plan import chosen_recipes, chosen_seeds, make_plan

    kept = folder.read_plan() if resume else None
    if resume and kept is None and not what.names_data:
        raise InputError(f"nothing to resume: {folder.path} has no {folder.plan_file.name}")
    names = chosen_recipes(what.recipes or "all") if what.recipes or kept is None else kept["recipes"]
    seeds = chosen_seeds(what.seeds or "3") if what.seeds or kept is None else kept["seeds"]
    base, said = _base(what, folder, kept), parse_overrides(overrides)
    if kept is not None:
        curve = what.curve or kept.get("curve", False)
        return make_plan(names, seeds, base, said, settings=kept["settings"], command=kept["command"], curve=curve)
    command = shlex.join(("rlsf", "compare", *what.arguments(), *overrides))
    return make_plan(names, seeds, base, said, command=command, curve=what.curve)


def _base(what: CompareOptions, folder: ComparisonFolder, kept: Layer | None) -> Callable[[str], Layer]:
    """What each method is told before anything that is set for all: settings of the demo, or those that were kept."""
    from rlsf.demo.settings import demo_settings
    from rlsf.pipeline.comparing_plan import BEFORE, MEASURES, what_is_compared

    layer = what.layer()
    if what.demo:
        model = None if what.model is None else Path(what.model)
        data = {labelled: data_layer(folder.path.parent, labelled, model) for labelled in (False, True)}

        def of_demo(name: str) -> Layer:
            method = MEASURES if name == BEFORE else name
            settings = merge(what_is_compared(method), demo_settings(method, model))
            return merge(settings, merge(data[resolve(method).needs_labels], layer))

        return of_demo
    if kept is not None:
        methods = {**kept["methods"], BEFORE: kept["start"]}
        return lambda name: merge(methods.get(name, {}), layer)
    return lambda name: merge(what_is_compared(MEASURES if name == BEFORE else name), layer)


def parse_budget(text: str) -> Layer:
    """``generated-tokens=200000,training-tokens=300000`` as the section ``budget``; raises ``InputError``."""
    budget: Layer = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        name = key.strip().replace("-", "_")
        if name not in BudgetConfig.model_fields:
            known = ", ".join(field.replace("_", "-") for field in BudgetConfig.model_fields)
            raise InputError(f"--budget {part.strip()}: unknown{near_names(key, known.split(', '))}; known: {known}")
        if not value.strip().replace("_", "").isdecimal() or name in budget:
            raise InputError(f"--budget {text}: say each cap once, as a number of tokens, {key}=200000 for instance")
        budget[name] = int(value)
    return budget


def _show(comparison: Comparison, folder: ComparisonFolder, console: Console) -> None:
    """The table, and where everything is."""
    from rlsf.report.comparison_table import comparison_table

    wide_enough(console, 200).print(comparison_table(comparison))
    for path in (folder.page_file, folder.figures_file, folder.table_file):
        console.print(f"{path.suffix.removeprefix('.')}  {path}", highlight=False, soft_wrap=True)


def _show_plan(plan: Plan, console: Console) -> None:
    """What would be run: methods, sizes, and what is shared."""
    from rlsf.pipeline.comparing_sizes import plan_sizes

    sizes = plan_sizes(plan)
    table = Table(box=None, pad_edge=False)
    for title in ("recipe", "kind", "labels", "prompts", "samples a prompt", "steps at most", "measured by"):
        table.add_column(title, no_wrap=title == "recipe", justify="right" if title in _NUMBERS else "left")
    for size in sizes.methods:
        numbers = (f"{number:,}" for number in (size.prompts, size.samples))
        table.add_row(size.recipe, size.kind, size.labels, *numbers, size.steps, size.mode)
    wide_enough(console, 200).print(table)
    caps = [f"{cap:,} {name.replace('_', ' ')}" for name, cap in plan.start.budget.model_dump().items() if cap]
    budget = f"; a run spends at most {' and '.join(caps)}" if caps else ""
    console.print(
        f"{len(sizes.methods)} methods with seeds {', '.join(map(str, plan.seeds))}: {sizes.runs} runs, measured on"
        f" {sizes.questions:,} questions{', at every checkpoint' if plan.curve else ''}; {sizes.shared} samplings serve"
        f" several runs{budget}",
        highlight=False,
        soft_wrap=True,
    )
