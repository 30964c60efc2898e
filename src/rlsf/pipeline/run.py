"""The main job, stage by stage: measure, then sample, rank, train as many rounds as asked, then measure again."""

from __future__ import annotations

import time
from typing import Any

from rlsf.pipeline.acceptance import acceptance_stage
from rlsf.pipeline.budgeting import REWARD_MODEL, allowance, less_probes, part_of_round
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import evaluate_stage, summary_stage
from rlsf.pipeline.introspection import introspection_stage
from rlsf.pipeline.manifest import Manifest
from rlsf.pipeline.metrics import spends
from rlsf.pipeline.online import online_stage
from rlsf.pipeline.ranking import rank_stage
from rlsf.pipeline.reporting import report_stage
from rlsf.pipeline.reward_modelling import reward_model_stage
from rlsf.pipeline.sampling import require_answers, sample_stage
from rlsf.pipeline.served import require_same_sampler
from rlsf.pipeline.training import train_stage
from rlsf.pipeline.warm_up import warm_up_stage
from rlsf.sampling.randomness import derived_seed
from rlsf.training.spending import Allowance


def run_all(run: Run) -> dict[str, Any] | None:
    """Every stage of a run; stages that are done already are kept. Returns the summary, None without questions."""
    started = time.monotonic()
    run.prompts  # noqa: B018  bad input is better met before any long work than after it
    warm_up(run)
    frozen = run.recipe.acceptance is not None
    if run.questions and not frozen:
        evaluate_stage(run, "before", run.start_config())
    learn(run)
    summary = None
    if run.questions:
        if frozen:  # measured once, for only the loop around it has learned
            evaluate_stage(run, "before", run.start_config())
        if run.folder.policy.exists():  # a reward model may be all that was trained
            evaluate_stage(run, "after", run.trained_config(run.recipe.rounds))
        summary = summary_stage(run)
    run.metrics.record({"event": "run", "seconds": time.monotonic() - started})
    report_stage(run)
    return summary


@spends("learning")
def warm_up(run: Run) -> None:
    """Teach the form that rewards look for, where the recipe asks for it: learning starts from that policy."""
    online = run.recipe.online
    if online is not None and online.warm_up.steps:
        warm_up_stage(run, online)


def learn(run: Run) -> None:
    """Train the policy: online, from dialogues with itself, or from preferences; or what accepts its attempts."""
    if run.recipe.acceptance is not None:
        acceptance_stage(run)
        return
    if run.recipe.reward_model is not None:
        sample_round(run, 1)
        rank_stage(run, 1)
        reward_model_stage(run)
    if run.recipe.online is not None:
        online_stage(run)
    if run.recipe.online is not None or run.recipe.reward_model is not None:
        return
    for round_ in range(1, run.recipe.rounds + 1):
        if run.recipe.introspection is not None:
            introspection_stage(run, round_)
            continue
        sample_round(run, round_)
        rank_stage(run, round_)
        train_stage(run, round_)


@spends("learning")
def sample_round(run: Run, round_: int) -> Manifest:
    """Sample the traces that a round learns from, with the policy of the round before."""
    title = run.title("sample", round_)
    sampled = sample_stage(
        run,
        title,
        run.policy_config(round_),
        run.prompts,
        run.folder.traces(round_),
        derived_seed(run.recipe.seed, "sample", round_),
        run.recipe.sampling,
        allowed=_allowed(run, round_),
    )
    require_answers(run, title, sampled)
    return sampled


def _allowed(run: Run, round_: int) -> Allowance:
    """What a round may sample: all but what the probes of its training need."""
    if run.recipe.reward_model is not None:
        return allowance(run, REWARD_MODEL)
    return less_probes(run.recipe, allowance(run, part_of_round(round_)), len(run.prompts))


def evaluate_all(run: Run) -> dict[str, Any]:
    """Measure the starting model, and the trained policy where there is one.

    Without prompts to learn from nothing is taught either: the model is measured as it is given.
    """
    require_same_sampler(run.recipe.model, run.folder.policy)
    start = run.recipe.model
    if run.recipe.prompts.path is not None or run.recipe.prompts.preset is not None:
        warm_up(run)
        start = run.start_config()
    evaluate_stage(run, "before", start)
    if run.folder.policy.exists():
        evaluate_stage(run, "after", run.trained_config(run.recipe.rounds))
    return summary_stage(run)
