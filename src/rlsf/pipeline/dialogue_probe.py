"""What a training on dialogues is probed with: held-out prompts, the answers wanted of them, and a second turn."""

from __future__ import annotations

from collections.abc import Sequence

from rlsf.introspection.config import IntrospectionConfig
from rlsf.pipeline.attempt_rewards import majority_answers
from rlsf.pipeline.budgeting import allowance, less_probes, part_of_round
from rlsf.pipeline.context import Run
from rlsf.pipeline.dialogues import asker, introspection_config, most_of_dialogue, turn_sampling
from rlsf.pipeline.probe import FollowUp, surest_of_traces
from rlsf.pipeline.sampling import read_traces, sample_stage
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.randomness import derived_seed
from rlsf.training.spending import Allowance


def probe_targets(run: Run, round_: int, kept_out: Sequence[str]) -> dict[str, str]:
    """For held-out prompts the answers that the policy of the round before is surest of, among its traces, or, where
    the majority is learned, those of the majority of as many attempts."""
    if not kept_out:
        return {}
    introspection, sampling = introspection_config(run), run.recipe.sampling
    by_majority = introspection.reward == "majority"
    if by_majority:
        sampling = turn_sampling(sampling, introspection, introspection.samples[0])
    prompts = [prompt for prompt in run.prompts if prompt.id in set(kept_out)]
    folder, seed = run.folder.traces(round_) / "probe", derived_seed(run.recipe.seed, "sample", round_)
    title = run.title("sample for the probe", round_)
    allowed = of_probe(run.recipe, allowance(run, part_of_round(round_)), len(run.prompts))
    sample_stage(run, title, run.policy_config(round_), prompts, folder, seed, sampling, allowed=allowed)
    traces = read_traces(folder)
    return majority_answers(traces) if by_majority else surest_of_traces(run, traces, run.recipe.signal)


def turns_of_probe(introspection: IntrospectionConfig) -> int:
    """How many turns the probe asks for: a second one as well, where dialogues have one."""
    return min(2, len(introspection.samples))


def of_dialogues(recipe: Recipe, allowed: Allowance, prompts: int) -> Allowance:
    """What the dialogues of a round may take of its allowance."""
    assert recipe.introspection is not None
    return less_probes(recipe, allowed, prompts, turns_of_probe(recipe.introspection))


def of_probe(recipe: Recipe, allowed: Allowance, prompts: int) -> Allowance:
    """What sampling held-out prompts may take of it, so that enough stays for a first dialogue."""
    return of_dialogues(recipe, allowed, prompts).less(most_of_dialogue(recipe)).half()


def follow_up(run: Run, round_: int) -> FollowUp | None:
    """How the probe asks for the second turn; None where it asks for none."""
    if turns_of_probe(introspection_config(run)) == 1:
        return None
    ask = asker(run, run.policy_config(round_))
    return lambda prompt, answer: ask(prompt, [answer])
