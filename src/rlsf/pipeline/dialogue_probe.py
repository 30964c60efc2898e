"""What a training on dialogues is probed with: held-out prompts, the answers wanted of them, and a second turn."""

from __future__ import annotations

from collections.abc import Sequence

from rlsf.pipeline.attempt_rewards import majority_answers
from rlsf.pipeline.budgeting import allowance, less_probes, part_of_round
from rlsf.pipeline.context import Run
from rlsf.pipeline.dialogues import asker, introspection_config, most_of_dialogue, turn_sampling
from rlsf.pipeline.probe import FollowUp, surest_of_traces
from rlsf.pipeline.sampling import read_traces, sample_stage
from rlsf.sampling.randomness import derived_seed


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
    left = less_probes(run, allowance(run, part_of_round(round_)), turns_of_probe(run))
    allowed = left.less(most_of_dialogue(run.recipe)).half()
    sample_stage(run, title, run.policy_config(round_), prompts, folder, seed, sampling, allowed=allowed)
    traces = read_traces(folder)
    return majority_answers(traces) if by_majority else surest_of_traces(run, traces, run.recipe.signal)


def turns_of_probe(run: Run) -> int:
    """How many turns the probe asks for: a second one as well, where dialogues have one."""
    return 1 if len(introspection_config(run).samples) == 1 else 2


def follow_up(run: Run, round_: int) -> FollowUp | None:
    """How the probe asks for the second turn; None where it asks for none."""
    if turns_of_probe(run) == 1:
        return None
    ask = asker(run, run.policy_config(round_))
    return lambda prompt, answer: ask(prompt, [answer])
