"""The stages of a run that learns from dialogues with itself: sample turn by turn, keep the best, train by rewards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.errors import InputError
from rlsf.files import atomic_path, digest
from rlsf.introspection.attempts import Attempt
from rlsf.pipeline.budgeting import allowance, part_of_round, with_probes
from rlsf.pipeline.context import Run
from rlsf.pipeline.dialogue_probe import follow_up, probe_targets, turns_of_probe
from rlsf.pipeline.dialogues import introspection_config
from rlsf.pipeline.launching import trained
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.metrics import spends
from rlsf.pipeline.probe import agreement_probe, held_out
from rlsf.pipeline.sampled_dialogues import sample_dialogues
from rlsf.pipeline.training import by_difference
from rlsf.prompts.prompt import Prompt
from rlsf.sampling.randomness import derived_seed
from rlsf.training.spending import COUNTS

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
        probe_targets(run, round_, kept_out)  # dialogues take what this leaves
    examples = examples_stage(run, round_, [prompt for prompt in run.prompts if prompt.id not in set(kept_out)])
    return train_stage(run, round_, examples, kept_out)


def examples_stage(run: Run, round_: int, prompts: Sequence[Prompt]) -> Manifest:
    """Sample dialogues on ``prompts`` and write the turns that are learned, one row each."""
    introspection = introspection_config(run)
    dialogues = sample_dialogues(run, round_, prompts)
    inputs = {
        "turns": dialogues.stages,
        "introspection": introspection.model_dump(mode="json", exclude={"training", "turns", "vote"}),
        "signal": run.recipe.signal if introspection.reward == "confidence" else None,
        "gold": digest([prompt.gold for prompt in prompts]) if introspection.reward == "gold" else None,
    }
    folder = run.folder.examples(round_)
    done = finished(folder, "examples", inputs)
    if done is not None:
        return done
    learned = dialogues.learned(introspection)
    if not learned:
        raise InputError(f"none of {len(dialogues.turns)} dialogues has a turn to learn from: {_remedy(introspection)}")
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / EXAMPLES, learned)
    counts = {"prompts": len(dialogues.turns), **dialogues.counts(introspection, learned)}
    manifest = Manifest("examples", inputs, counts)
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
        probe_targets(run, round_, kept_out)  # sampled before the processes read them
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
    targets = probe_targets(run, round_, kept_out)
    allowed = allowance(run, part_of_round(round_), [run.folder.traces(round_)])
    with run.progress.stage(run.title("train", round_), training.optimiser_steps(len(rewarded))) as advance:
        return train_weighted(
            model=run.model_to_train(base),
            tokenizer=run.tokenizer,
            examples=rewarded,
            config=training,
            folder=run.folder.checkpoints(round_),
            policy_folder=run.folder.round_policy(round_, recipe.rounds),
            seed=derived_seed(recipe.seed, "train", round_),
            probe=agreement_probe(run, targets, follow_up(run, round_)) if targets else None,
            record=lambda event: run.metrics.record({**event, "round": round_}),
            resume=True,
            progress=by_difference(advance),
            allowance=with_probes(recipe, allowed, len(targets), turns_of_probe(introspection_config(run))),
        )


def _remedy(introspection: IntrospectionConfig) -> str:
    """What to do where no turn can be learned."""
    if introspection.reward == "majority":
        return "raise introspection.samples, or sampling.max_new_tokens where attempts were cut"
    return (
        "set introspection.select=all, lower introspection.success, or raise sampling.max_new_tokens where attempts"
        " were cut"
    )


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
