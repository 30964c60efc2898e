"""Which traces several runs of a comparison begin with, and how a run takes those that another one made."""

from __future__ import annotations

from typing import Any

from rlsf.files import digest
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import evaluation_sampling
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.metrics import MetricsLog
from rlsf.pipeline.reuse import borrow_traces
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.config import SamplingConfig

#: Settings of sampling that decide nothing.
_NOT_DECISIVE = {"workers", "batch_tokens"}
#: The stage that measures the start, as metrics name it.
_BEFORE = "evaluate before"


def question_key(recipe: Recipe) -> str | None:
    """What decides the traces that the model as given is measured by; None where it is taught something first."""
    if recipe.online is not None and recipe.online.warm_up.steps:
        return None
    return _key(recipe, "questions", recipe.evaluation_data, evaluation_sampling(recipe))


def learning_key(recipe: Recipe) -> str | None:
    """What decides the traces that the first round learns from; None for a recipe that samples no such traces."""
    own_way = recipe.online is not None and recipe.reward_model is None
    if own_way or recipe.introspection is not None or recipe.acceptance is not None:
        return None
    return _key(recipe, "prompts", recipe.prompts, recipe.sampling)


def _key(recipe: Recipe, use: str, prompts: Any, way: SamplingConfig) -> str:
    """A digest of settings. It may tell apart what is the same: then nothing is shared, and nothing is wrong."""
    kept = recipe.model_dump(mode="json")
    decisive = {name: kept[name] for name in ("model", "render", "answer", "seed")}
    sampling = way.model_dump(mode="json", exclude=_NOT_DECISIVE)
    asked = {"use": use, "prompts": prompts.model_dump(mode="json"), "sampling": sampling}
    if recipe.model.engine == "vllm":  # signals say whether its traces are measured once more
        asked["signals"] = [recipe.signal, kept["judge"]]
    if use == "prompts" and recipe.budget.generated_tokens is not None:  # the cap's share of the first round
        parts = [recipe.rounds, recipe.reward_model is not None, recipe.online is not None]
        asked["budget"] = [kept["budget"], parts, recipe.selection.enabled, recipe.selection.prompts]
    return digest([decisive, asked])


def begin_with(lender: RunFolder, run: Run) -> None:
    """Copy the lender's traces into a run that has not sampled them itself, and what their sampling took.

    Tokens and seconds then count as if the run had sampled them. The run checks the traces against its own recipe.
    """
    sample = run.title("sample", 1)
    places = {_BEFORE: run.folder.evaluation("before") / "traces", sample: run.folder.traces(1)}
    known = {event.get("phase") for event in run.metrics.events()}
    for event in MetricsLog(lender.metrics_file).events():
        if event["event"] == "sampling":
            phase, purpose = (_BEFORE, "measuring") if event["phase"] == _BEFORE else (sample, "learning")
            if phase not in known and not places[phase].exists():  # before the traces come: none is told twice
                run.metrics.record({**event, "phase": phase, f"{purpose}_seconds": event["seconds"]})
    borrow_traces(lender, run.folder)
