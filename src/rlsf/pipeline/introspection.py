"""The stages of a run that learns from dialogues with itself: sample turn by turn, keep the best, train by rewards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.answers.equivalence import Grader
from rlsf.confidence import get_signal
from rlsf.errors import InputError
from rlsf.files import atomic_path, digest
from rlsf.introspection.attempts import (
    Attempt,
    best_attempt,
    confidence_reward,
    gold_reward,
    learned_turns,
    without_duplicates,
)
from rlsf.pipeline.context import Run
from rlsf.pipeline.dialogues import asker, introspection_config, turn_sampling
from rlsf.pipeline.launching import trained
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.probe import FollowUp, agreement_probe, held_out, surest_of_traces
from rlsf.pipeline.ranking import confidences
from rlsf.pipeline.sampling import read_traces, require_answers, sample_stage
from rlsf.pipeline.training import by_difference
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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


class Rewarder(Protocol):
    """The reward of each attempt at a prompt."""

    def __call__(self, prompt: Prompt, traces: Sequence[Trace]) -> list[float]: ...


def introspection_stage(run: Run, round_: int) -> Manifest:
    """One round: dialogues of the newest policy, examples of them, and training weighted by rewards."""
    kept_out = held_out(run, [prompt.id for prompt in run.prompts])
    examples = examples_stage(run, round_, [prompt for prompt in run.prompts if prompt.id not in set(kept_out)])
    return train_stage(run, round_, examples, kept_out)


def examples_stage(run: Run, round_: int, prompts: Sequence[Prompt]) -> Manifest:
    """Sample dialogues on ``prompts`` and write the turns that are learned, one row each."""
    introspection = introspection_config(run)
    dialogues, stages = _dialogues(run, round_, prompts)
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
        attempts[turn]
        for attempts in dialogues
        for turn in learned_turns([one.reward for one in attempts], introspection.select, introspection.success)
    ]
    if introspection.drop_duplicates:
        learned = list(without_duplicates(learned))
    if not learned:
        raise InputError(
            f"none of {len(prompts)} dialogues has a turn to learn from: set introspection.select=all, lower"
            " introspection.success, or raise sampling.max_new_tokens where attempts were cut"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / EXAMPLES, learned)
    counts = _counts(dialogues, learned, introspection.success)
    manifest = Manifest("examples", inputs, {"prompts": len(prompts), **counts})
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
    counts = ("examples", "too_long", "steps", "best_step", "learning_rate", "reason")
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
        )


def _dialogues(run: Run, round_: int, prompts: Sequence[Prompt]) -> tuple[list[list[Attempt]], list[str]]:
    """The attempts that stayed in each dialogue, turn by turn, and the digests of the samplings.

    A dialogue ends with a success, with the last turn, or where no attempt of a turn can be used.
    """
    introspection, model = introspection_config(run), run.policy_config(round_)
    ask, stages = asker(run, model), []
    dialogues: dict[str, list[Attempt]] = {prompt.id: [] for prompt in prompts}
    open_, folder = list(prompts), run.folder.traces(round_)
    with rewarder(run.recipe, run.tokenizer) as rewards:
        for turn, samples in enumerate(introspection.samples, 1):
            asked = [ask(prompt, [one.trace.text for one in dialogues[prompt.id]]) for prompt in open_]
            title, seed = f"sample turn {turn}", derived_seed(run.recipe.seed, "sample", round_, turn)
            place, sampling = folder / f"turn-{turn}", turn_sampling(run.recipe.sampling, introspection, samples)
            sampled = sample_stage(run, run.title(title, round_), model, asked, place, seed, sampling)
            if turn == 1:
                require_answers(run, title, sampled)
            stages.append(sampled.digest)
            going_on = []
            for prompt, traces in zip(open_, read_traces(place), strict=True):
                attempts = [
                    Attempt(trace, reward, turn) for trace, reward in zip(traces, rewards(prompt, traces), strict=True)
                ]
                best = best_attempt(attempts, introspection.repetition_limit)
                if best is not None:
                    dialogues[prompt.id].append(best)
                    if best.reward < introspection.success:
                        going_on.append(prompt)
            open_ = going_on
            if not open_:
                break
    return list(dialogues.values()), stages


@contextmanager
def rewarder(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Iterator[Rewarder]:
    """What an attempt earns: the signal's confidence, or, where the recipe says so, whether its answer is right."""
    if recipe.introspection is None or recipe.introspection.reward == "confidence":
        signal = get_signal(recipe.signal)
        yield lambda prompt, traces: [confidence_reward(c) for c in confidences(traces, signal, tokenizer)]
        return
    with Grader() as grader:

        def verdict(prompt: Prompt, trace: Trace) -> bool | None:
            assert prompt.gold is not None  # read with the prompts of a recipe that needs labels
            return None if trace.answer is None else bool(grader(trace.answer.text, prompt.gold, prompt.choices))

        yield lambda prompt, traces: [gold_reward(verdict(prompt, trace)) for trace in traces]


def _counts(dialogues: Sequence[Sequence[Attempt]], learned: Sequence[Attempt], success: float) -> dict[str, Any]:
    """What became of the dialogues: where they ended, and whether later turns earn more than the first."""
    longer = [attempts for attempts in dialogues if len(attempts) > 1]
    return {
        "without_attempt": sum(not attempts for attempts in dialogues),
        "first_successes": sum(bool(attempts) and attempts[0].reward >= success for attempts in dialogues),
        "longer": len(longer),
        "improved": sum(attempts[-1].reward > attempts[0].reward for attempts in longer),
        "later_successes": sum(attempts[-1].reward >= success for attempts in longer),
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
            "answer": attempt.trace.answer.text if attempt.trace.answer else None,
            "reward": attempt.reward,
        }
        for attempt in learned
    ]
    with atomic_path(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA), partial, compression="zstd")


def _probe_targets(run: Run, round_: int, kept_out: Sequence[str]) -> dict[str, str]:
    """For held-out prompts the answers that the policy of the round before is surest of, among its traces."""
    if not kept_out:
        return {}
    prompts = [prompt for prompt in run.prompts if prompt.id in set(kept_out)]
    folder, seed = run.folder.traces(round_) / "probe", derived_seed(run.recipe.seed, "sample", round_)
    title = run.title("sample for the probe", round_)
    sample_stage(run, title, run.policy_config(round_), prompts, folder, seed, run.recipe.sampling)
    return surest_of_traces(run, read_traces(folder), run.recipe.signal)


def _follow_up(run: Run, round_: int) -> FollowUp | None:
    """The probe asks for a second turn as well, where dialogues have one."""
    if len(introspection_config(run).samples) == 1:
        return None
    ask = asker(run, run.policy_config(round_))
    return lambda prompt, answer: ask(prompt, [answer])
