"""The rewards that an audit recovers: a linear one of features, and a reward model of the start's body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rlsf.audit import FEATURES, AuditConfig, LinearReward, recover_linear
from rlsf.evaluation.groups import FloatArray
from rlsf.evaluation.reward_accuracy import ScoredPair
from rlsf.files import digest
from rlsf.models import load_model, model_fingerprint
from rlsf.models.config import ModelConfig
from rlsf.models.reward_model import load_reward_model
from rlsf.pipeline.context import Run
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.reward_modelling import STAGE, score_pairs, split_pairs
from rlsf.pipeline.training import by_difference
from rlsf.sampling.randomness import derived_seed
from rlsf.training.max_margin import pair_loss


@dataclass(frozen=True, slots=True)
class Split:
    """Pairs that rewards are fitted to, and pairs of other prompts."""

    learned_from: pa.Table
    kept_out: pa.Table


def split(run: Run, config: AuditConfig, pairs: pa.Table, number: int) -> Split:
    """The split of that number, by the prompts' ids; the first is the one that is reported."""
    return Split(*split_pairs(pairs, config.held_out, derived_seed(run.recipe.seed, "audit", "split", number)))


def features_of(table: pa.Table, prefix: str = "") -> dict[str, FloatArray]:
    """The features of one trace a row, by name."""
    return {name: np.asarray(table[f"{prefix}{name}"].to_numpy(), dtype=np.float64) for name in FEATURES}


def linear_rewards(run: Run, config: AuditConfig, pairs: pa.Table) -> list[LinearReward]:
    """The linear reward of every split; only the first has intervals."""
    found = []
    for number in range(config.splits):
        learned_from = split(run, config, pairs, number).learned_from
        found.append(
            recover_linear(
                features_of(learned_from, "chosen_"),
                features_of(learned_from, "rejected_"),
                learned_from["prompt_id"].to_pylist(),
                objective=config.objective,
                ridge=config.ridge,
                resamples=0 if number else config.bootstrap,
                seed=run.recipe.seed,
            )
        )
    return found


def score_linearly(reward: LinearReward, pairs: pa.Table) -> list[ScoredPair]:
    """The pairs with their linear rewards."""
    chosen, rejected = (reward.rewards(features_of(pairs, f"{side}_")) for side in ("chosen", "rejected"))
    return [
        ScoredPair(row["prompt_id"], float(one), float(other), len(row["chosen_ids"]), len(row["rejected_ids"]))
        for row, one, other in zip(pairs.to_pylist(), chosen, rejected, strict=True)
    ]


def train_reward_models(run: Run, config: AuditConfig, learned_from: pa.Table) -> list[Path]:
    """A reward model for each head, in the folder of each; none where both models wrote the same throughout."""
    differ = [row["chosen_ids"] != row["rejected_ids"] for row in learned_from.to_pylist()]
    if not any(differ):
        run.progress.warn("every pair to learn from is of one trace twice: no reward model can be trained")
        return []
    pairs = learned_from.filter(pa.array(differ))
    return [_train(run, config, pairs, head) for head in range(config.heads)]


def _train(run: Run, config: AuditConfig, pairs: pa.Table, head: int) -> Path:
    from rlsf.training.reward_model import train_reward_model

    base, checkpoints = run.recipe.model, run.folder.reward_checkpoints
    folder = checkpoints.with_name(f"{checkpoints.name}-{head}") if head else checkpoints
    reward_folder = folder / "reward_model" if head else run.folder.reward_model
    inputs = {
        "pairs": digest(pairs.select(["prompt_ids", "chosen_ids", "rejected_ids"]).to_pylist()),
        "model": {"fingerprint": model_fingerprint(base), "dtype": base.dtype},
        "reward_model": config.model.model_dump(mode="json"),
        "objective": config.objective,
        "seed": run.recipe.seed,
    }
    if finished(folder, STAGE, inputs) is not None:
        return reward_folder
    title = STAGE if config.heads == 1 else f"{STAGE}, head {head + 1}"
    with run.progress.stage(title, config.model.optimiser_steps(pairs.num_rows)) as advance:
        result = train_reward_model(
            model=load_model(base.model_copy(update={"dtype": "float32"} if base.dtype == "auto" else {})),
            tokenizer=run.tokenizer,
            preferences=pairs,
            config=config.model,
            folder=folder,
            reward_folder=reward_folder,
            seed=derived_seed(run.recipe.seed, "audit", "head", head),
            record=lambda event: run.metrics.record({**event, "event": "reward_model", "head": head}),
            resume=True,
            progress=by_difference(advance),
            pair_loss=partial(pair_loss, objective=config.objective),
        )
    counts = {name: getattr(result, name) for name in ("pairs", "too_long", "steps", "learning_rate")}
    Manifest(STAGE, inputs, counts).write(folder)
    return reward_folder


def score_by_models(
    run: Run, folders: Sequence[Path], pairs: pa.Table, sequences: Sequence[Sequence[int]]
) -> tuple[list[list[ScoredPair]], FloatArray]:
    """The pairs with the rewards of each model, and the first one's rewards of some ``sequences`` of token ids."""
    from rlsf.scoring.reward_scores import reward_scores

    rows: list[Mapping[str, Any]] = pairs.to_pylist()
    scored, of_sequences = [], []
    for place, folder in enumerate(folders):
        model = load_reward_model(_at(run.recipe.model, folder))
        scored.append(score_pairs(model, [dict(row) for row in rows]))
        if not place:
            of_sequences = reward_scores(model, sequences)
    return scored, np.array(of_sequences, dtype=np.float64)


def _at(base: ModelConfig, folder: Path) -> ModelConfig:
    return base.model_copy(update={"path": str(folder), "revision": None})
