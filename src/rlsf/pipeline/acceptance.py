"""The acceptance stage: records to an acceptance model, and to the threshold of its loop on questions kept out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from rlsf.acceptance.closed_form import best_threshold, loop_accuracy, mean_rounds, rates_at, require_both_kinds
from rlsf.evaluation import auroc
from rlsf.files import read_json, write_json
from rlsf.models import load_tokenizer, model_fingerprint
from rlsf.models.reward_model import load_reward_model
from rlsf.pipeline.attempts import acceptance_config
from rlsf.pipeline.budgeting import ACCEPTANCE as PART
from rlsf.pipeline.budgeting import allowance
from rlsf.pipeline.context import Run
from rlsf.pipeline.judged import acceptance_scores, base_model, own_acceptance_model
from rlsf.pipeline.launching import trained
from rlsf.pipeline.manifest import Manifest, finished, require
from rlsf.pipeline.metrics import spends
from rlsf.pipeline.records import RECORDS, records_stage
from rlsf.pipeline.reward_modelling import split_pairs
from rlsf.pipeline.training import by_difference
from rlsf.sampling.randomness import derived_seed
from rlsf.training.spending import COUNTS

if TYPE_CHECKING:
    from rlsf.training import TrainingResult

STAGE = "acceptance"
#: Beside the acceptance model: who accepts, from which score on, and what that promises.
ACCEPTANCE = "acceptance.json"


@spends("learning")
def acceptance_stage(run: Run) -> Manifest:
    """Train an acceptance model on the records of the policy, which stays as it is, and choose the threshold.

    Records of ``acceptance.held_out`` of the questions are kept out: on them the threshold is chosen, for the model's
    score and for the signal's confidence alike.
    """
    records, config = records_stage(run), acceptance_config(run)
    inputs = {
        "records": records.digest,
        "model": model_fingerprint(base_model(run)) if config.by == "model" else None,
        "acceptance": config.model_dump(mode="json", exclude={"model", "abstain"}),
        "seed": run.recipe.seed,
    }
    folder = run.folder.acceptance_checkpoints
    done = finished(folder, STAGE, inputs)
    if done is not None:
        return done
    table = pq.read_table(run.folder.records / RECORDS)
    _, kept_out = split_pairs(table, config.held_out, run.recipe.seed)
    counts: dict[str, Any] = {"held_out_records": kept_out.num_rows}
    rows = kept_out.to_pylist()
    require_both_kinds([row["right"] for row in rows])  # before any training
    scores = {"confidence": [row["confidence"] for row in rows]}
    if config.by == "model":
        result = trained(run, train_on_records, 1, folder)
        counts |= {name: getattr(result, name) for name in ("examples", "too_long", "steps", "learning_rate", *COUNTS)}
        scores = {"model": _scores(run, rows), **scores}
    found = {name: _threshold(run, rows, values, tuned=name != config.by) for name, values in scores.items()}
    write_json(run.folder.acceptance / ACCEPTANCE, {"by": config.by, "signal": run.recipe.signal, "scores": found})
    counts |= {name: found[config.by][name] for name in ("threshold", "predicted", "auroc")}
    manifest = Manifest(STAGE, inputs, counts)
    run.metrics.record({"event": "threshold", **counts})
    manifest.write(folder)
    return manifest


def require_acceptance(run: Run) -> tuple[Manifest, dict[str, Any]]:
    """The finished stage, and what it wrote; raises ``InputError`` where it is not done."""
    stage = require(run.folder.acceptance_checkpoints, STAGE, f"run --resume --output {run.folder.path}")
    return stage, read_json(run.folder.acceptance / ACCEPTANCE)


def train_on_records(run: Run, round_: int) -> TrainingResult:
    """The training itself, in each process where it is done in several.

    Attempts without an answer are left out, since they are never accepted.
    """
    from rlsf.training.acceptance import JudgedAttempt, train_acceptance_model

    recipe, base, training = run.recipe, base_model(run), acceptance_config(run).training
    table = pq.read_table(run.folder.records / RECORDS)
    records, _ = split_pairs(table, acceptance_config(run).held_out, recipe.seed)
    attempts = [
        JudgedAttempt(row["token_ids"], row["right"]) for row in records.to_pylist() if row["answer"] is not None
    ]
    with run.progress.stage("acceptance model", training.optimiser_steps(len(attempts))) as advance:
        return train_acceptance_model(
            model=run.body_to_train(base),
            tokenizer=run.tokenizer if acceptance_config(run).model is None else load_tokenizer(base),
            attempts=attempts,
            config=training,
            folder=run.folder.acceptance_checkpoints,
            acceptance_folder=run.folder.acceptance,
            seed=derived_seed(recipe.seed, STAGE),
            record=lambda event: run.metrics.record({**event, "event": "acceptance"}),
            resume=True,
            progress=by_difference(advance),
            allowance=allowance(run, PART),
        )


def _scores(run: Run, rows: Sequence[dict[str, Any]]) -> list[float]:
    """The model's scores of records, as at inference."""
    model = load_reward_model(own_acceptance_model(run))
    return acceptance_scores(model, [None if row["answer"] is None else row["token_ids"] for row in rows])


def _threshold(run: Run, rows: Sequence[dict[str, Any]], scores: Sequence[float], *, tuned: bool) -> dict[str, Any]:
    """The threshold for these scores, the rates of acceptance there, and what the closed form makes of them.

    ``tuned``: whatever the recipe says of its threshold, which is that of its own scores.
    """
    config, right = acceptance_config(run), [row["right"] for row in rows]
    first = [row["right"] for row in rows if row["round"] == 1]
    first_right = sum(first) / max(1, len(first))
    threshold = config.threshold
    if tuned or threshold == "tuned":
        threshold = best_threshold(scores, right, first_right, config.rounds)
    rates = rates_at(scores, right, threshold, first_right)
    return {
        "threshold": threshold,
        "questions": len(first),
        "records": len(rows),
        "p": rates.right,
        "a": rates.true,
        "b": rates.false,
        "precision": rates.precision,
        "predicted": loop_accuracy(rates, config.rounds),
        "predicted_rounds": mean_rounds(rates, config.rounds),
        "auroc": auroc(scores, right),
    }
