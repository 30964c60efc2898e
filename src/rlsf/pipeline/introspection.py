"""The stages of a run that learns from dialogues with itself: sample turn by turn, keep the best, train by rewards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.errors import InputError
from rlsf.files import atomic_path, digest
from rlsf.introspection.attempts import (
    Attempt,
    Turn,
    WithoutMajority,
    learned_turns,
    turn_of,
    without_duplicates,
    without_majority,
)
from rlsf.pipeline.attempt_rewards import majority_answers, rewarder
from rlsf.pipeline.budgeting import allowance, less_probes, part_of_round, with_probes
from rlsf.pipeline.context import Run
from rlsf.pipeline.dialogues import asker, introspection_config, turn_sampling
from rlsf.pipeline.launching import trained
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.metrics import spends
from rlsf.pipeline.probe import FollowUp, agreement_probe, held_out, surest_of_traces
from rlsf.pipeline.sampling import read_traces, require_answers, sample_stage
from rlsf.pipeline.spent import of_stages
from rlsf.pipeline.training import by_difference
from rlsf.pipeline.waves import Waves, most_tokens
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.randomness import derived_seed
from rlsf.training.spending import COUNTS, Allowance

if TYPE_CHECKING:
    from rlsf.introspection.config import IntrospectionConfig
    from rlsf.training import TrainingResult

EXAMPLES = "examples.parquet"
EXAMPLE_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("turn", pa.int32()),
        ("index", pa.int32()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("completion_ids", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("answer", pa.string()),
        ("reward", pa.float64()),
    ]
)


@spends("learning")
def introspection_stage(run: Run, round_: int) -> Manifest:
    """One round: dialogues of the newest policy, examples of them, and training weighted by rewards."""
    kept_out = held_out(run, [prompt.id for prompt in run.prompts])
    if run.recipe.budget.generated_tokens is not None:
        _probe_targets(run, round_, kept_out)  # dialogues take what this leaves
    examples = examples_stage(run, round_, [prompt for prompt in run.prompts if prompt.id not in set(kept_out)])
    return train_stage(run, round_, examples, kept_out)


def examples_stage(run: Run, round_: int, prompts: Sequence[Prompt]) -> Manifest:
    """Sample dialogues on ``prompts`` and write the turns that are learned, one row each."""
    introspection = introspection_config(run)
    dialogues, stages, unlearned = _dialogues(run, round_, prompts)
    inputs = {
        "turns": stages,
        "introspection": introspection.model_dump(mode="json", exclude={"training", "turns", "vote"}),
        "signal": run.recipe.signal if introspection.reward == "confidence" else None,
        "gold": digest([prompt.gold for prompt in prompts]) if introspection.reward == "gold" else None,
    }
    folder = run.folder.examples(round_)
    done = finished(folder, "examples", inputs)
    if done is not None:
        return done
    learned = [
        attempt
        for turns in dialogues
        for turn in learned_turns([one.best.reward for one in turns], introspection.select, introspection.success)
        for attempt in turns[turn].examples
    ]
    if introspection.drop_duplicates:
        learned = list(without_duplicates(learned))
    if not learned:
        raise InputError(f"none of {len(dialogues)} dialogues has a turn to learn from: {_remedy(introspection)}")
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / EXAMPLES, learned)
    counts = {**_counts(dialogues, learned, introspection.success), **unlearned}
    manifest = Manifest("examples", inputs, {"prompts": len(dialogues), **counts})
    run.metrics.record({"event": "examples", "round": round_, **manifest.counts})
    manifest.write(folder)
    return manifest


def train_stage(run: Run, round_: int, examples: Manifest, kept_out: Sequence[str]) -> Manifest:
    """Fine-tune the policy of the round before on this round's examples."""
    training = introspection_config(run).training
    inputs = {"examples": examples.digest, "training": training.model_dump(mode="json"), "seed": run.recipe.seed}
    folder = run.folder.checkpoints(round_)
    done = finished(folder, "train", inputs)
    if done is not None:
        return done
    if run.launcher is not None:
        _probe_targets(run, round_, kept_out)  # sampled before the processes read them
    result = trained(run, train_on_examples, round_, folder)
    counts = ("examples", "too_long", "steps", "best_step", "learning_rate", "reason", *COUNTS)
    manifest = Manifest("train", inputs, {name: getattr(result, name) for name in counts})
    manifest.write(folder)
    return manifest


def train_on_examples(run: Run, round_: int) -> TrainingResult:
    """The training itself; in each process where it is done in several."""
    from rlsf.training import train_weighted
    from rlsf.training.supervised import Example
    from rlsf.training.weighted_sft import RewardedExample

    recipe, base, training = run.recipe, run.policy_config(round_), introspection_config(run).training
    kept_out = held_out(run, [prompt.id for prompt in run.prompts])
    rows = pq.read_table(run.folder.examples(round_) / EXAMPLES).to_pylist()
    rewarded = [RewardedExample(Example(row["prompt_ids"], row["completion_ids"]), row["reward"]) for row in rows]
    targets = _probe_targets(run, round_, kept_out)
    with run.progress.stage(run.title("train", round_), training.optimiser_steps(len(rewarded))) as advance:
        return train_weighted(
            model=run.model_to_train(base),
            tokenizer=run.tokenizer,
            examples=rewarded,
            config=training,
            folder=run.folder.checkpoints(round_),
            policy_folder=run.folder.round_policy(round_, recipe.rounds),
            seed=derived_seed(recipe.seed, "train", round_),
            probe=agreement_probe(run, targets, _follow_up(run, round_)) if targets else None,
            record=lambda event: run.metrics.record({**event, "round": round_}),
            resume=True,
            progress=by_difference(advance),
            allowance=with_probes(run, _allowed(run, round_, run.folder.traces(round_)), len(targets), _turns(run)),
        )


def _remedy(introspection: IntrospectionConfig) -> str:
    """What to do where no turn can be learned."""
    if introspection.reward == "majority":
        return "raise introspection.samples, or sampling.max_new_tokens where attempts were cut"
    return (
        "set introspection.select=all, lower introspection.success, or raise sampling.max_new_tokens where attempts"
        " were cut"
    )


def _dialogues(run: Run, round_: int, prompts: Sequence[Prompt]) -> tuple[list[list[Turn]], list[str], dict[str, int]]:
    """The turns of each dialogue, the digests of the samplings, and how many turns have no majority, by the reason.

    Under a cap whole dialogues are taken in the order of their prompts, as long as the longest possible one fits.
    """
    introspection, folder = introspection_config(run), run.folder.traces(round_)
    most = most_of_dialogue(run.recipe)
    allowed = less_probes(run, _allowed(run, round_, folder / "probe"), _turns(run))
    allowed.require("generated_tokens", most, "the first dialogue")
    waves = Waves(len(prompts), allowed.generated_tokens, most)
    dialogues: list[list[Turn]] = []
    stages: list[str] = []
    reasons: list[WithoutMajority] = []
    for number, wave in enumerate(waves, 1):
        place = folder if waves.cap is None else folder / f"wave-{number}"
        of_wave = _dialogues_of(run, round_, prompts[waves.taken - wave : waves.taken], place, first=number == 1)
        dialogues, stages, reasons = dialogues + of_wave[0], stages + of_wave[1], reasons + of_wave[2]
        waves.pay(0 if waves.cap is None else of_stages(place).generated_tokens)
    counted = get_args(WithoutMajority) if introspection.reward == "majority" else ()
    return dialogues, stages, {reason: reasons.count(reason) for reason in counted}


def _dialogues_of(
    run: Run, round_: int, prompts: Sequence[Prompt], folder: Path, *, first: bool
) -> tuple[list[list[Turn]], list[str], list[WithoutMajority]]:
    """The turns of each dialogue, the digests of the samplings, and why turns have no majority.

    A dialogue ends with a success, with the last turn, or where no attempt of a turn can be used. Of the ``first``
    dialogues some attempt must have an answer.
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
            going_on = []
            for prompt, traces in zip(open_, read_traces(place), strict=True):
                earned = rewards(prompt, traces)
                attempts = [Attempt(trace, reward, turn) for trace, reward in zip(traces, earned, strict=True)]
                if introspection.reward == "majority":
                    reasons += without_majority(attempts, introspection.repetition_limit)
                kept = turn_of(attempts, introspection)
                if kept is not None:
                    dialogues[prompt.id].append(kept)
                    if kept.best.reward < introspection.success:
                        going_on.append(prompt)
            open_ = going_on
            if not open_:
                break
    return list(dialogues.values()), stages, reasons


def _counts(dialogues: Sequence[Sequence[Turn]], learned: Sequence[Attempt], success: float) -> dict[str, Any]:
    """What became of the dialogues: where they ended, and whether later turns earn more than the first."""
    rewards = [[turn.best.reward for turn in turns] for turns in dialogues]
    longer = [earned for earned in rewards if len(earned) > 1]
    return {
        "without_attempt": sum(not earned for earned in rewards),
        "first_successes": sum(bool(earned) and earned[0] >= success for earned in rewards),
        "longer": len(longer),
        "improved": sum(earned[-1] > earned[0] for earned in longer),
        "later_successes": sum(earned[-1] >= success for earned in longer),
        "examples": len(learned),
        "later_examples": sum(attempt.turn > 1 for attempt in learned),
    }


def _write(path: Path, learned: Sequence[Attempt]) -> None:
    rows = [
        {
            "prompt_id": attempt.trace.prompt_id,
            "turn": attempt.turn,
            "index": attempt.trace.index,
            "prompt_ids": attempt.trace.prompt_token_ids,
            "completion_ids": attempt.trace.token_ids,
            "text": attempt.trace.text,
            "answer": attempt.trace.answer_text,
            "reward": attempt.reward,
        }
        for attempt in learned
    ]
    with atomic_path(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA), partial, compression="zstd")


def _probe_targets(run: Run, round_: int, kept_out: Sequence[str]) -> dict[str, str]:
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
    allowed = less_probes(run, _allowed(run, round_), _turns(run)).less(most_of_dialogue(run.recipe)).half()
    sample_stage(run, title, run.policy_config(round_), prompts, folder, seed, sampling, allowed=allowed)
    traces = read_traces(folder)
    return majority_answers(traces) if by_majority else surest_of_traces(run, traces, run.recipe.signal)


def _allowed(run: Run, round_: int, *done: Path) -> Allowance:
    return allowance(run, part_of_round(round_), done)


def most_of_dialogue(recipe: Recipe) -> int:
    """The most tokens that the attempts of a dialogue can have."""
    assert recipe.introspection is not None
    return most_tokens(recipe, recipe.sampling, traces=sum(recipe.introspection.samples))


def _turns(run: Run) -> int:
    """How many turns the probe asks for."""
    return 1 if len(introspection_config(run).samples) == 1 else 2


def _follow_up(run: Run, round_: int) -> FollowUp | None:
    """The probe asks for a second turn as well, where dialogues have one."""
    if _turns(run) == 1:
        return None
    ask = asker(run, run.policy_config(round_))
    return lambda prompt, answer: ask(prompt, [answer])
