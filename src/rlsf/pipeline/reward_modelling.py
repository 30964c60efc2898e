"""The reward-model stage: ranked pairs to a reward model, measured on pairs that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.evaluation.reward_accuracy import RewardAccuracy, ScoredPair, reward_accuracy
from rlsf.files import digest, write_json
from rlsf.models import model_fingerprint
from rlsf.models.config import ModelConfig
from rlsf.models.reward_model import load_reward_model
from rlsf.pipeline.budgeting import REWARD_MODEL, allowance
from rlsf.pipeline.conditioning import limited_prompts, numbers_of_pairs, pairs_to_learn_from
from rlsf.pipeline.context import Run
from rlsf.pipeline.launching import trained
from rlsf.pipeline.length_bias import measure_length_bias
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.metrics import spends
from rlsf.pipeline.ranking import PAIRS
from rlsf.pipeline.training import by_difference
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.rewards.reward_model import EVALUATION
from rlsf.sampling.randomness import derived_seed
from rlsf.training.spending import COUNTS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from rlsf.training import TrainingResult
    from rlsf.training.reward_model_config import RewardModelConfig

STAGE = "reward model"


@spends("learning")
def reward_model_stage(run: Run) -> Manifest:
    """Train a reward model from the model at the start on the pairs, and measure it on the held-out ones."""
    made, _ = pairs_to_learn_from(run, 1)
    recipe, base, config = run.recipe, run.policy_config(1), reward_model_config(run)
    inputs = {
        "preferences": made.digest,
        "model": {"fingerprint": model_fingerprint(base), "dtype": base.dtype},
        "reward_model": config.model_dump(mode="json"),
        "seed": recipe.seed,
    }
    folder = run.folder.reward_checkpoints
    done = finished(folder, STAGE, inputs)
    if done is not None:
        return done
    ranked = pq.read_table(run.folder.preferences(1) / PAIRS)
    _, kept_out = split_pairs(ranked, config.held_out, recipe.seed)
    result = trained(run, train_on_comparisons, 1, folder)
    measured = _measure(run, kept_out) if kept_out.num_rows else None
    counts = ("pairs", "too_long", "steps", "learning_rate", *COUNTS)
    manifest = Manifest(
        STAGE,
        inputs,
        {
            **{name: getattr(result, name) for name in counts},
            "held_out_pairs": kept_out.num_rows,
            "accuracy": None if measured is None else measured.accuracy,
        },
    )
    manifest.write(folder)
    return manifest


def train_on_comparisons(run: Run, round_: int) -> TrainingResult:
    """The training itself; in each process where it is done in several."""
    from rlsf.training.reward_model import train_reward_model

    _, path = pairs_to_learn_from(run, round_)
    recipe, base, config = run.recipe, run.policy_config(round_), reward_model_config(run)
    learned_from, _ = split_pairs(pq.read_table(path), config.held_out, recipe.seed)
    with run.progress.stage(STAGE, config.optimiser_steps(learned_from.num_rows)) as advance:
        return train_reward_model(
            model=run.body_to_train(base),
            tokenizer=run.tokenizer,
            preferences=learned_from,
            config=config,
            folder=run.folder.reward_checkpoints,
            reward_folder=run.folder.reward_model,
            seed=derived_seed(recipe.seed, STAGE),
            record=lambda event: run.metrics.record({**event, "event": "reward_model"}),
            resume=True,
            progress=by_difference(advance),
            allowance=allowance(run, REWARD_MODEL),
        )


def reward_model_config(run: Run) -> RewardModelConfig:
    """The section ``reward_model``, which this run has."""
    assert run.recipe.reward_model is not None
    return run.recipe.reward_model


def own_reward_model(run: Run) -> ModelConfig | None:
    """The reward model that this run trains, None where it trains none."""
    if run.recipe.reward_model is None:
        return None
    return run.recipe.model.model_copy(update={"path": str(run.folder.reward_model), "revision": None})


def split_pairs(pairs: pa.Table, share: float, seed: int) -> tuple[pa.Table, pa.Table]:
    """Pairs to learn from, and those of ``share`` of the prompts, kept out.

    Prompts are chosen by the digest of their ids, so that the choice depends on neither order nor resume; the guard's
    probe holds out by the same order, so that the smaller set is part of the larger.
    """
    order = sorted(set(pairs["prompt_id"].to_pylist()), key=lambda prompt_id: digest([seed, prompt_id]))
    kept = set(order[: math.floor(share * len(order))])
    out = [prompt_id in kept for prompt_id in pairs["prompt_id"].to_pylist()]
    return pairs.filter(pa.array([not one for one in out], pa.bool_())), pairs.filter(pa.array(out, pa.bool_()))


def _measure(run: Run, pairs: pa.Table) -> RewardAccuracy:
    """Score the held-out pairs by the model that was saved; what is found is kept beside it."""
    config = own_reward_model(run)
    assert config is not None
    model = load_reward_model(config)
    scored = score_pairs(model, pairs.to_pylist())
    settings = run.recipe.evaluation
    measured = reward_accuracy(scored, bins=settings.bins, resamples=settings.bootstrap, seed=run.recipe.seed)
    found = {**measured.model_dump(mode="json"), **_length_bias(run, model, pairs)}
    write_json(run.folder.reward_model / EVALUATION, found)
    run.metrics.record({"event": "reward_accuracy", "accuracy": measured.accuracy, "ece": measured.ece})
    return measured


def _length_bias(run: Run, model: PreTrainedModel, pairs: pa.Table) -> dict[str, Any]:
    """What length does to the rewards, as another key of what was measured.

    Also where nothing is learned about limits: that is what a model that did is compared to.
    """
    recipe = run.recipe
    conditioning = recipe.conditioning or LengthConditioningConfig()
    measured = measure_length_bias(
        model,
        pairs,
        conditioning,
        limited_prompts(run.prompts, run.tokenizer, recipe.render, conditioning),
        numbers_of_pairs(derived_seed(recipe.seed, "length bias")),
        resamples=recipe.evaluation.bootstrap,
        seed=recipe.seed,
    )
    return {"length_bias": measured.model_dump(mode="json")}


def score_pairs(model: PreTrainedModel, pairs: Sequence[dict[str, Any]]) -> list[ScoredPair]:
    """The rewards of pairs given by token ids; a trace that stands in several pairs is scored once."""
    from rlsf.scoring.reward_scores import reward_scores

    sides = ("chosen", "rejected")
    sequences = dict.fromkeys(_sequence(pair, side) for pair in pairs for side in sides)
    rewards = dict(zip(sequences, reward_scores(model, list(sequences)), strict=True))
    return [
        ScoredPair(
            prompt_id=pair["prompt_id"],
            subset=pair.get("subset") or "",
            **{f"{side}_reward": rewards[_sequence(pair, side)] for side in sides},
            **{f"{side}_tokens": len(pair[f"{side}_ids"]) for side in sides},
        )
        for pair in pairs
    ]


def _sequence(pair: dict[str, Any], side: str) -> tuple[int, ...]:
    ids: Iterable[int] = (*pair["prompt_ids"], *pair[f"{side}_ids"])
    return tuple(ids)
