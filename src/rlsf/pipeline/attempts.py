"""Attempts at questions, one after another, while what the policy said is rejected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rlsf.acceptance.config import AcceptanceConfig
from rlsf.models.config import ModelConfig
from rlsf.pipeline.context import Run
from rlsf.pipeline.dialogues import Asker, dialogue_asker
from rlsf.pipeline.sampling import read_traces, sample_stage
from rlsf.pipeline.waves import most_tokens
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

#: Which of the attempts, one for each of the prompts, are rejected.
Rejects = Callable[[Sequence[Prompt], Sequence[Trace]], Sequence[bool]]


def acceptance_config(run: Run) -> AcceptanceConfig:
    """The section ``acceptance``, which this run has."""
    assert run.recipe.acceptance is not None
    return run.recipe.acceptance


def most_of_attempts(recipe: Recipe) -> int:
    """The most tokens that all attempts at a prompt, and the votes on its answer, can have."""
    config = recipe.acceptance
    assert config is not None
    return most_tokens(recipe, recipe.sampling, traces=config.rounds + (0 if config.labels == "gold" else config.votes))


def attempt_sampling(run: Run, attempts: int) -> SamplingConfig:
    """How so many independent attempts at each question are sampled."""
    return run.recipe.sampling.model_copy(
        update={
            "strategy": "sampling",
            "branches": attempts,
            "temperature": acceptance_config(run).temperature,
        }
    )


def try_again(
    run: Run, model: ModelConfig, use: str, folder: Path, asked: Mapping[str, tuple[Prompt, Trace]], rejects: Rejects
) -> tuple[dict[str, list[Trace]], list[str]]:
    """All attempts at each prompt, by its id, and the digests of their samplings.

    ``asked`` holds the prompts with a first attempt at each. What ``rejects`` is tried again, up to
    ``acceptance.rounds`` attempts in all; ``use`` is what the attempts are for, and they are numbered from 0.
    """
    ask, stages = _asker(run, model), []
    attempts = {prompt_id: [first] for prompt_id, (_, first) in asked.items()}
    open_ = [prompt for prompt, _ in asked.values()]
    for round_ in range(2, acceptance_config(run).rounds + 1):
        said = rejects(open_, [attempts[prompt.id][-1] for prompt in open_])
        open_ = [prompt for prompt, rejected in zip(open_, said, strict=True) if rejected]
        if not open_:
            break
        prompts = [ask(prompt, [trace.text for trace in attempts[prompt.id]]) for prompt in open_]
        place, seed = folder / f"attempt-{round_}", derived_seed(run.recipe.seed, use, round_)
        sampled = sample_stage(run, f"{use}, attempt {round_}", model, prompts, place, seed, attempt_sampling(run, 1))
        stages.append(sampled.digest)
        for (trace,) in read_traces(place):
            attempts[trace.prompt_id].append(replace(trace, index=round_ - 1))
    return attempts, stages


def _asker(run: Run, model: ModelConfig) -> Asker:
    """How another attempt is asked for: with the rejected ones before the policy, or with the question alone."""
    config = acceptance_config(run)
    if config.retry == "independent":
        return lambda prompt, rejected: prompt
    return dialogue_asker(run, model, config.rejection, config.window)
