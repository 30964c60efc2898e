"""Dialogues of the newest policy with itself: sampled turn by turn, the best attempt of each going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rlsf.introspection.attempts import (
    Attempt,
    Turn,
    WithoutMajority,
    learned_turns,
    turn_of,
    without_duplicates,
    without_majority,
)
from rlsf.introspection.config import IntrospectionConfig
from rlsf.pipeline.attempt_rewards import rewarder
from rlsf.pipeline.budgeting import allowance, part_of_round
from rlsf.pipeline.context import Run
from rlsf.pipeline.dialogue_probe import of_dialogues
from rlsf.pipeline.dialogues import asker, introspection_config, most_of_dialogue, turn_sampling
from rlsf.pipeline.sampling import read_traces, require_answers, sample_stage
from rlsf.pipeline.spent import of_stages
from rlsf.pipeline.waves import Waves
from rlsf.prompts.prompt import Prompt
from rlsf.sampling.randomness import derived_seed


@dataclass(frozen=True, slots=True)
class SampledDialogues:
    """The turns of each dialogue, the digests of the samplings, and why turns have no majority, one entry for each."""

    turns: Sequence[Sequence[Turn]] = ()
    stages: Sequence[str] = ()
    without_majority: Sequence[WithoutMajority] = ()

    def __add__(self, other: SampledDialogues) -> SampledDialogues:
        return SampledDialogues(
            [*self.turns, *other.turns],
            [*self.stages, *other.stages],
            [*self.without_majority, *other.without_majority],
        )

    def learned(self, config: IntrospectionConfig) -> list[Attempt]:
        """The attempts that are examples, by the rules of ``config``."""
        learned = [
            attempt
            for turns in self.turns
            for turn in learned_turns([one.best.reward for one in turns], config.select, config.success)
            for attempt in turns[turn].examples
        ]
        return list(without_duplicates(learned)) if config.drop_duplicates else learned

    def counts(self, config: IntrospectionConfig, learned: Sequence[Attempt]) -> dict[str, Any]:
        """What became of the dialogues: where they ended, and whether later turns earn more than the first."""
        rewards = [[turn.best.reward for turn in turns] for turns in self.turns]
        longer = [earned for earned in rewards if len(earned) > 1]
        reasons = get_args(WithoutMajority) if config.reward == "majority" else ()
        return {
            "without_attempt": sum(not earned for earned in rewards),
            "first_successes": sum(bool(earned) and earned[0] >= config.success for earned in rewards),
            "longer": len(longer),
            "improved": sum(earned[-1] > earned[0] for earned in longer),
            "later_successes": sum(earned[-1] >= config.success for earned in longer),
            "examples": len(learned),
            "later_examples": sum(attempt.turn > 1 for attempt in learned),
            **{reason: self.without_majority.count(reason) for reason in reasons},
        }


def sample_dialogues(run: Run, round_: int, prompts: Sequence[Prompt]) -> SampledDialogues:
    """A dialogue on each prompt, with the policy of the round before.

    Under a cap whole dialogues are taken in the order of their prompts, as long as the longest possible one fits.
    Raises ``InputError`` where not even one fits, and where no first attempt has an answer.
    """
    folder, most = run.folder.traces(round_), most_of_dialogue(run.recipe)
    allowed = of_dialogues(run.recipe, allowance(run, part_of_round(round_), [folder / "probe"]), len(run.prompts))
    allowed.require("generated_tokens", most, "the first dialogue")
    waves, found = Waves(len(prompts), allowed.generated_tokens, most), SampledDialogues()
    for number, wave in enumerate(waves, 1):
        place = folder if waves.cap is None else folder / f"wave-{number}"
        found += _sample_at_once(run, round_, prompts[waves.taken - wave : waves.taken], place, first=number == 1)
        waves.pay(0 if waves.cap is None else of_stages(place).generated_tokens)
    return found


def _sample_at_once(run: Run, round_: int, prompts: Sequence[Prompt], folder: Path, *, first: bool) -> SampledDialogues:
    """A dialogue ends with a success, with the last turn, or where no attempt of a turn can be used.

    Of the ``first`` dialogues some attempt must have an answer.
    """
    introspection, model = introspection_config(run), run.policy_config(round_)
    ask, stages = asker(run, model), []
    dialogues: dict[str, list[Turn]] = {prompt.id: [] for prompt in prompts}
    reasons: list[WithoutMajority] = []
    open_ = list(prompts)
    with rewarder(run.recipe, run.tokenizer) as rewards:
        for turn, samples in enumerate(introspection.samples, 1):
            asked = [ask(prompt, [one.best.trace.text for one in dialogues[prompt.id]]) for prompt in open_]
            title, seed = f"sample turn {turn}", derived_seed(run.recipe.seed, "sample", round_, turn)
            place, sampling = folder / f"turn-{turn}", turn_sampling(run.recipe.sampling, introspection, samples)
            sampled = sample_stage(run, run.title(title, round_), model, asked, place, seed, sampling)
            if turn == 1 and first:
                require_answers(run, title, sampled)
            stages.append(sampled.digest)
            attempted = [
                [Attempt(trace, reward, turn) for trace, reward in zip(traces, rewards(prompt, traces), strict=True)]
                for prompt, traces in zip(open_, read_traces(place), strict=True)
            ]
            if introspection.reward == "majority":
                for attempts in attempted:
                    reasons += without_majority(attempts, introspection.repetition_limit)
            open_ = _going_on(open_, attempted, dialogues, introspection)
            if not open_:
                break
    return SampledDialogues(list(dialogues.values()), stages, reasons)


def _going_on(
    prompts: Sequence[Prompt],
    attempted: Sequence[Sequence[Attempt]],
    dialogues: Mapping[str, list[Turn]],
    config: IntrospectionConfig,
) -> list[Prompt]:
    """The prompts whose dialogues, to which this turn of theirs is added, go on."""
    going_on = []
    for prompt, attempts in zip(prompts, attempted, strict=True):
        turn = turn_of(attempts, config)
        if turn is not None:
            dialogues[prompt.id].append(turn)
            if turn.best.reward < config.success:
                going_on.append(prompt)
    return going_on
