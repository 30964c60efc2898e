"""``rlsf signals``: which confidence signal knows right from wrong, on a model and questions of one's own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from rlsf.cli.interrupt import resumed_by
from rlsf.cli.options import Overrides, RecipeOptions, RunOptions, Workers
from rlsf.cli.run import print_recipe
from rlsf.recipes.resolve import merge
from rlsf.sampling.executor import ExecutorOptions

_RECIPE, _WHERE, _WORKERS = RecipeOptions(), RunOptions(), ExecutorOptions()


def signals(
    *overrides: Overrides,
    data: str | None = None,
    signals: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True, negative="")] = None,
    direct_tokens: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    options: RecipeOptions = _RECIPE,
    where: RunOptions = _WHERE,
    workers: Workers = _WORKERS,
) -> None:
    """Study every confidence signal on a model and labelled questions: which one knows right answers from wrong ones?

    Parameters
    ----------
    data:
        A few hundred labelled questions, given like --eval-data.
    signals:
        Signals to study; by default all that the engine serves. A judge's P(True) is added where the recipe has a
        judge, for example with --judge.template full.
    direct_tokens:
        A trace with at most this many tokens before its answer is a direct one, 10 by default.
    """
    from rlsf.cli.signal_tables import show_study
    from rlsf.pipeline.signal_study import PAGE, STUDY, StudyFolder, StudyRun, study_preflight, study_stage
    from rlsf.pipeline.signal_study_config import SignalStudyConfig, with_statistics_for

    options = options.measuring(data, overrides)
    output = where.output or Path("runs") / f"signals-{datetime.now():%Y%m%d-%H%M%S}"
    folder = StudyFolder(output)
    said: dict[str, Any] = {
        "signals": [name for text in signals for name in text.split(",")] if signals else None,
        "direct_tokens": direct_tokens,
    }
    said = {key: value for key, value in said.items() if value is not None}
    config = SignalStudyConfig.model_validate(merge(folder.kept_settings() if where.resume else {}, said))
    recipe = where.recipe(options, overrides)
    recipe = with_statistics_for(recipe, config.chosen(recipe.model))
    if where.dry_run:
        print_recipe(recipe)
        return
    run = StudyRun(recipe, folder, executor=workers)
    study_preflight(run, config)
    with (
        resumed_by("rlsf", "signals", "--resume", "--output", output, *workers.arguments()),
        run.open(resume=where.resume),
    ):
        study = study_stage(run, folder, config)
    console = Console()
    show_study(study, console)
    for name in (STUDY, PAGE):
        console.print(f"{Path(name).suffix[1:]}  {output / name}", highlight=False, soft_wrap=True, markup=False)
