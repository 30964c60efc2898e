"""The work of a comparison in pieces, each done by a process of its own in a run folder of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlsf.pipeline.comparing_folder import ComparisonFolder
from rlsf.pipeline.comparing_plan import BEFORE, Plan
from rlsf.pipeline.comparing_sharing import begin_with, learning_key, question_key
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.prompts.config import PromptConfig
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.executor import ExecutorOptions

#: The whole run; the model as given on the questions; the traces of the first round.
Stages = Literal["all", "measure", "sample"]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One piece of work: some stages of a run. ``lenders``: folders of earlier pieces whose traces it begins with;
    ``curve``: whether every checkpoint is measured as well."""

    name: str
    recipe: Recipe
    folder: Path
    stages: Stages = "all"
    lenders: tuple[Path, ...] = ()
    curve: bool = False


def jobs_of(plan: Plan, folder: ComparisonFolder) -> list[Job]:
    """Everything that a comparison has to do, lenders before those who borrow.

    For each seed the model as given is measured once, and traces that several recipes would sample with equal settings
    are sampled once.
    """
    seeded = [
        (name, recipe.model_copy(update={"seed": seed})) for seed in plan.seeds for name, recipe in plan.methods.items()
    ]
    starts = [_start(plan.start.model_copy(update={"seed": seed}), folder) for seed in plan.seeds]
    lending = {question_key(job.recipe): job for job in starts}
    lending |= {key: job for key, job in _shared(seeded, folder) if key not in lending}
    runs = [
        Job(
            f"{name}, seed {recipe.seed}",
            recipe,
            folder.run(name, recipe.seed),
            lenders=tuple(lending[key].folder for key in _keys(recipe) if key in lending),
            curve=plan.curve,
        )
        for name, recipe in seeded
    ]
    return [*lending.values(), *runs]


def _start(recipe: Recipe, folder: ComparisonFolder) -> Job:
    return Job(f"{BEFORE}, seed {recipe.seed}", recipe, folder.run(BEFORE, recipe.seed), "measure")


def _keys(recipe: Recipe) -> list[str]:
    return [key for key in (question_key(recipe), learning_key(recipe)) if key is not None]


def _shared(seeded: list[tuple[str, Recipe]], folder: ComparisonFolder) -> Iterator[tuple[str, Job]]:
    """A piece of work for every sampling that more than one run needs."""
    uses: tuple[tuple[Stages, Callable[[Recipe], str | None]], ...] = (
        ("measure", question_key),
        ("sample", learning_key),
    )
    for stages, key_of in uses:
        wanted = Counter(key_of(recipe) for _, recipe in seeded)
        for name, recipe in seeded:
            key = key_of(recipe)
            if key is None or wanted.pop(key, 0) < 2:
                continue
            if stages == "measure":  # nothing but the traces is lent
                greedy = recipe.evaluation.model_copy(update={"modes": ("greedy",)})
                recipe = recipe.model_copy(update={"prompts": PromptConfig(), "evaluation": greedy})
            title = f"{'questions' if stages == 'measure' else 'traces'} of {name} and others, seed {recipe.seed}"
            yield key, Job(title, recipe, folder.shared(f"{stages}-{key[:16]}"), stages)


def carry_out(job: Job, progress: ProgressDisplay, *, alone: bool) -> None:
    """Do a piece of work, or what is left of it. ``alone``: this process samples by itself, without workers."""
    from rlsf.pipeline.curve import measure_curve
    from rlsf.pipeline.preflight import preflight
    from rlsf.pipeline.reporting import report_stage
    from rlsf.pipeline.run import evaluate_all, run_all, sample_round

    executor = ExecutorOptions(workers=1) if alone else ExecutorOptions()
    run = Run(job.recipe, RunFolder(job.folder), progress, executor)
    preflight(run, learns=job.stages != "measure", trains=job.stages == "all")
    with run.open(resume=True):
        for lender in job.lenders:
            begin_with(RunFolder(lender), run)
        if job.stages == "measure":
            evaluate_all(run)
            report_stage(run)
        elif job.stages == "sample":
            sample_round(run, 1)
        else:
            run_all(run)
            if job.curve:
                measure_curve(run)
