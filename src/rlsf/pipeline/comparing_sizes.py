"""How much a comparison would do, by its recipes and questions alone: nothing is sampled to find out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlsf.pipeline.comparing_folder import ComparisonFolder
from rlsf.pipeline.comparing_jobs import jobs_of
from rlsf.pipeline.comparing_plan import Plan, mode_of
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.probe import held_out_count
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.registry import recipe_card


@dataclass(frozen=True, slots=True)
class MethodSize:
    """One run of a method. ``steps``: of the optimiser; empty where they depend on what is sampled."""

    recipe: str
    kind: str
    labels: str
    prompts: int
    samples: int
    steps: str
    mode: str


@dataclass(frozen=True, slots=True)
class PlanSizes:
    """All runs; ``shared``: samplings that serve more than one of them."""

    methods: Sequence[MethodSize]
    questions: int
    runs: int
    shared: int


def plan_sizes(plan: Plan) -> PlanSizes:
    """The sizes of a plan. Raises ``InputError`` for questions that no run could read."""
    jobs = jobs_of(plan, ComparisonFolder(Path("comparison")))
    runs = [job for job in jobs if job.stages == "all"]
    lent = {lender for job in runs for lender in job.lenders}
    return PlanSizes(
        [_size(name, recipe) for name, recipe in plan.methods.items()],
        len(Run(plan.start, RunFolder(Path("before"))).questions),
        len(runs),
        len(lent),
    )


def _size(name: str, recipe: Recipe) -> MethodSize:
    prompts = len(Run(recipe, RunFolder(Path(name))).prompts)
    online, introspection = recipe.online, recipe.introspection
    if online is not None:
        samples = online.num_generations
        steps = f"{online.optimiser_steps(prompts - held_out_count(recipe.selection, prompts)):,}"
    elif introspection is not None:
        samples, steps = sum(introspection.samples), ""
    elif recipe.acceptance is not None:
        samples, steps = recipe.acceptance.rounds, ""
    else:
        most = recipe.training.max_steps
        samples, steps = recipe.sampling.branches, f"{recipe.rounds * most:,}" if most else ""
    labels = "gold" if recipe.needs_labels else "none"
    return MethodSize(name, recipe_card(name).kind, labels, prompts, samples, steps, mode_of(recipe))
