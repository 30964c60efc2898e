"""The training stage: preference pairs to a policy, with the checkpoint chosen without labels."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.pipeline.conditioning import pairs_to_learn_from
from rlsf.pipeline.context import Run
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.probe import agreement_probe, held_out, surest_answers
from rlsf.pipeline.ranking import CONFIDENCES
from rlsf.sampling.randomness import derived_seed


def train_stage(run: Run, round_: int) -> Manifest:
    """Fine-tune the policy of the round before on this round's pairs."""
    from rlsf.training import keep_reference, train_preferences

    made, path = pairs_to_learn_from(run, round_)
    recipe, base = run.recipe, run.policy_config(round_)
    inputs = {
        "preferences": made.digest,
        "training": recipe.training.model_dump(mode="json"),
        "seed": recipe.seed,
    }
    folder = run.folder.checkpoints(round_)
    done = finished(folder, "train", inputs)
    if done is not None:
        return done
    pairs = pq.read_table(path)
    targets = probe_targets(run, round_)
    training_pairs = pairs.filter(pa.array([prompt_id not in targets for prompt_id in pairs["prompt_id"].to_pylist()]))
    if round_ > 1 and recipe.training.reference == "start":
        keep_reference(
            lambda: run.model_to_train(run.start_config()),
            tokenizer=run.tokenizer,
            preferences=training_pairs,
            config=recipe.training,
            folder=folder,
        )
    title = run.title("train", round_)
    with run.progress.stage(title, recipe.training.optimiser_steps(training_pairs.num_rows)) as advance:
        result = train_preferences(
            model=run.model_to_train(base),
            tokenizer=run.tokenizer,
            preferences=training_pairs,
            config=recipe.training,
            folder=folder,
            policy_folder=run.folder.round_policy(round_, recipe.rounds),
            seed=derived_seed(recipe.seed, "train", round_),
            probe=agreement_probe(run, targets) if targets else None,
            record=lambda event: run.metrics.record({**event, "round": round_}),
            resume=True,
            progress=by_difference(advance),
        )
    counts = ("pairs", "too_long", "steps", "best_step", "learning_rate", "reason")
    manifest = Manifest("train", inputs, {name: getattr(result, name) for name in counts})
    manifest.write(folder)
    return manifest


def by_difference(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """A progress display that is told how far the trainer is, where it wants to know how far it has come."""
    reached = 0

    def progress(done: int, total: int) -> None:
        nonlocal reached
        advance(done - reached)
        reached = done

    return progress


def probe_targets(run: Run, round_: int) -> dict[str, str]:
    """Prompts kept out of training for the probe, each with the answer the sampling policy was surest of."""
    rows = pq.read_table(run.folder.preferences(round_) / CONFIDENCES).to_pylist()
    surest = surest_answers((row["prompt_id"], row["answer"], row["confidence"]) for row in rows)
    return {prompt_id: surest[prompt_id] for prompt_id in held_out(run, surest)}
