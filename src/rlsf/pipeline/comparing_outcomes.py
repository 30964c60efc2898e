"""What the runs of a comparison left in their folders, method by method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from rlsf.evaluation.comparing import MethodOutcomes
from rlsf.evaluation.comparison_schema import Asked
from rlsf.pipeline.comparing_folder import ComparisonFolder, Ended
from rlsf.pipeline.comparing_plan import BEFORE, Plan, mode_of
from rlsf.pipeline.curve import read_curve
from rlsf.pipeline.evaluation import read_outcomes
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.shards import shard_paths
from rlsf.pipeline.spent import read_spent
from rlsf.prompts.config import PromptConfig
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.registry import recipe_card


def method_outcomes(plan: Plan, folder: ComparisonFolder, ended: Mapping[Path, Ended]) -> list[MethodOutcomes]:
    """The model as given, then every method of the plan; runs that failed are there with their reasons."""
    methods = [_method(BEFORE, plan.start, plan, folder, ended)]
    return methods + [_method(name, recipe, plan, folder, ended) for name, recipe in plan.methods.items()]


def _method(
    name: str, recipe: Recipe, plan: Plan, folder: ComparisonFolder, ended: Mapping[Path, Ended]
) -> MethodOutcomes:
    is_start, mode = name == BEFORE, mode_of(recipe)
    folders = {seed: RunFolder(folder.run(name, seed)) for seed in plan.seeds}
    ends = {seed: ended[of_seed.path] for seed, of_seed in folders.items()}
    failed = {seed: end.failure for seed, end in ends.items() if end.failure is not None}
    done = {seed: of_seed for seed, of_seed in folders.items() if seed not in failed}
    # A policy that is not trained is measured once; what is greedy there is the model as given.
    phase = "before" if is_start or mode == "retry" else "after"
    entropies = {seed: mean_entropy(of_seed.evaluation(phase) / "traces") for seed, of_seed in done.items()}
    measured = mode == "greedy" and None not in entropies.values()
    return MethodOutcomes(
        recipe=name,
        title="the model as given" if is_start else recipe_card(name).summary,
        kind="start" if is_start else recipe_card(name).kind,
        needs_labels=not is_start and recipe.needs_labels,
        mode=mode,
        outcomes={seed: read_outcomes(of_seed, phase) for seed, of_seed in done.items()},
        reference=None
        if is_start or mode == "retry"
        else {seed: read_outcomes(of_seed, "before") for seed, of_seed in done.items()},
        entropy={seed: value for seed, value in entropies.items() if value is not None} if measured else None,
        spent={seed: asdict(read_spent(of_seed)) for seed, of_seed in done.items()},
        curve={seed: points for seed, of_seed in done.items() if (points := read_curve(of_seed))},
        failed=failed,
    )


def mean_entropy(traces: Path) -> float | None:
    """Mean entropy of the next-token distribution in nats: over the tokens of a greedy trace, then over questions.

    None where what sampled does not record it.
    """
    means = []
    for path in shard_paths(traces):
        table = pq.read_table(path, columns=["index", "entropy"])
        for index, entropy in zip(table["index"].to_pylist(), table["entropy"], strict=True):
            if index == 0 and len(entropy.values):
                means.append(np.mean(entropy.values.to_numpy(zero_copy_only=False), dtype=np.float64))
    mean = float(np.mean(means)) if means else float("nan")
    return mean if np.isfinite(mean) else None


def asked(plan: Plan, name: str) -> Asked:
    """What was asked for, as the page says it."""
    first = next(iter(plan.methods.values()))
    budget = plan.start.budget
    return Asked(
        name=name,
        model=str(first.model.path),
        data=_said(first.prompts),
        measured_on=_said(plan.start.evaluation_data),
        seeds=plan.seeds,
        generated_tokens=budget.generated_tokens,
        training_tokens=budget.training_tokens,
        settings=dict(plan.settings),
        command=plan.command or None,
    )


def _said(prompts: PromptConfig | None) -> str:
    if prompts is None:
        return ""
    parts = (prompts.preset, prompts.path, prompts.subset, prompts.split)
    return ", ".join(dict.fromkeys(part for part in parts if part))
