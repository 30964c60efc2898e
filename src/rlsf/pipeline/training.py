"""The training stage: preference pairs to a policy, with the checkpoint chosen without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.evaluation import agreement
from rlsf.files import digest
from rlsf.models import load_model
from rlsf.pipeline.answering import find_answers
from rlsf.pipeline.context import Run, stage_seed
from rlsf.pipeline.manifest import Manifest, finished, require
from rlsf.pipeline.ranking import CONFIDENCES, PAIRS
from rlsf.pipeline.sampling import requests

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Probe = Callable[["PreTrainedModel", int], Mapping[str, float]]


def train_stage(run: Run, round_: int) -> Manifest:
    """Fine-tune the policy of the round before on this round's pairs."""
    from rlsf.training import train_preferences

    ranked = require(run.folder.preferences(round_), "rank", f"rank {run.folder.path}")
    recipe, base = run.recipe, run.policy_config(round_)
    inputs = {
        "preferences": ranked.digest,
        "training": recipe.training.model_dump(mode="json"),
        "seed": recipe.seed,
    }
    folder = run.folder.checkpoints(round_)
    done = finished(folder, "train", inputs)
    if done is not None:
        return done
    pairs = pq.read_table(run.folder.preferences(round_) / PAIRS)
    held_out = probe_prompts(run, round_)
    training_pairs = pairs.filter(pa.array([prompt_id not in held_out for prompt_id in pairs["prompt_id"].to_pylist()]))
    title = run.title("train", round_)
    with run.progress.stage(title, recipe.training.optimiser_steps(training_pairs.num_rows)) as advance:
        result = train_preferences(
            # An adapter wraps the model and passes on its attributes; the trainer takes either.
            model=cast("PreTrainedModel", load_model(base, for_training=True)),
            tokenizer=run.tokenizer,
            preferences=training_pairs,
            config=recipe.training,
            folder=folder,
            policy_folder=run.folder.round_policy(round_, recipe.training.rounds),
            seed=stage_seed(recipe.seed, "train", round_),
            probe=agreement_probe(run, round_, held_out) if held_out else None,
            record=lambda event: run.metrics.record({**event, "round": round_}),
            resume=True,
            progress=_by_difference(advance),
        )
    counts = ("pairs", "too_long", "steps", "best_step", "learning_rate", "reason")
    manifest = Manifest("train", inputs, {name: getattr(result, name) for name in counts})
    manifest.write(folder)
    return manifest


def _by_difference(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """A progress display that is told how far the trainer is, where it wants to know how far it has come."""
    reached = 0

    def progress(done: int, total: int) -> None:
        nonlocal reached
        advance(done - reached)
        reached = done

    return progress


def probe_prompts(run: Run, round_: int) -> dict[str, str]:
    """Unlabelled prompts kept out of training, each with the answer the sampling policy was surest of.

    Chosen by the digest of their ids, so that the choice depends on neither order nor resume; at most a fifth of
    the prompts.
    """
    selection = run.recipe.training.selection
    if not selection.enabled:
        return {}
    best: dict[str, tuple[float, str]] = {}
    for row in pq.read_table(run.folder.preferences(round_) / CONFIDENCES).to_pylist():
        if row["answer"] is None or row["confidence"] is None:
            continue
        known = best.get(row["prompt_id"])
        if known is None or row["confidence"] > known[0]:
            best[row["prompt_id"]] = (row["confidence"], row["answer"])
    order = sorted(best, key=lambda prompt_id: digest([run.recipe.seed, prompt_id]))
    return {prompt_id: best[prompt_id][1] for prompt_id in order[: min(selection.prompts, len(order) // 5)]}


def agreement_probe(run: Run, round_: int, targets: Mapping[str, str]) -> Probe:
    """Share of held-out prompts whose greedy answer is the one the sampling policy was surest of."""
    from rlsf.sampling.transformers_engine import TransformersEngine

    prompts = [prompt for prompt in run.prompts if prompt.id in targets]
    asked = list(requests(run, prompts, run.recipe.seed))
    greedy = run.recipe.sampling.model_copy(
        update={"strategy": "cot_decoding", "branches": 1, "continuation": "greedy"}
    )

    choices = [prompt.choices for prompt in prompts]

    def probe(model: PreTrainedModel, step: int) -> Mapping[str, float]:
        engine = TransformersEngine(model, run.tokenizer)
        sampled = list(engine.sample(asked, greedy))
        traces = find_answers(engine, run.tokenizer, sampled, choices, run.recipe.answer)
        answers = [trace.answer.text if trace.answer else None for trace in traces]
        return {
            "agreement": agreement(answers, [targets[prompt.id] for prompt in prompts]),
            "mean_tokens": sum(len(trace.token_ids) for trace in traces) / len(traces),
        }

    return probe
