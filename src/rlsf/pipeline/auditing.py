"""The audit: traces of a model before and after training to the reward that separates them (arXiv 2410.12491).

audit.yaml  recipe.yaml  environment.json  metrics.jsonl
traces/before/  traces/after/  traces/measured.parquet
questions/before/  questions/after/  questions/measured.parquet
checkpoints/reward-model/
reward_model/
pairs.parquet  audit.json
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from rlsf.audit import FEATURES, AuditConfig, LinearReward
from rlsf.audit.measures import order_auroc, right_and_wrong, spearman, within_kendall
from rlsf.audit.result import Audit, FeatureDifference, Separation, Spread
from rlsf.errors import InputError
from rlsf.evaluation.groups import FloatArray
from rlsf.evaluation.reward_accuracy import ScoredPair, reward_accuracy
from rlsf.files import atomic_path, write_json, write_text
from rlsf.models import load_tokenizer, model_fingerprint
from rlsf.models.config import ModelConfig
from rlsf.pipeline.audit_rewards import (
    Split,
    features_of,
    linear_rewards,
    score_by_models,
    score_linearly,
    split,
    train_reward_models,
)
from rlsf.pipeline.audit_traces import SIDES, measured_traces, pair_table
from rlsf.pipeline.context import Run, count_shared
from rlsf.pipeline.preflight import require_usable
from rlsf.prompts import load_prompts
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.resolve import differences, read_config
from rlsf.rewards.reward_model import EVALUATION

RESULT, SETTINGS, PAIRS = "audit.json", "audit.yaml", "pairs.parquet"


def audit_prompts(run: Run) -> list[Prompt]:
    """The questions that both models are asked; gold answers are not read."""
    config = run.recipe.prompts
    if config.path is None and config.preset is None:
        raise InputError("no prompts: say --prompts FILE_OR_HUB_ID")
    return load_prompts(config, with_gold=False, learned_from=True)


def audit_preflight(run: Run, after: ModelConfig, config: AuditConfig) -> None:
    """Look at everything but the weights, before the folder is taken.

    Raises ``InputError`` for models of different vocabularies, for too few prompts, and as ``require_usable`` does of
    either model.
    """
    before = run.recipe.model
    if before.path is None or after.path is None:
        raise InputError("say both models: --before MODEL --after MODEL")
    if load_tokenizer(after).get_vocab() != run.tokenizer.get_vocab():
        raise InputError(
            f"{after.path} has another vocabulary than {before.path}: an audit compares a model with the one that its"
            " training started from"
        )
    prompts = audit_prompts(run)
    for model in (before, after):
        asked = run.recipe.model_copy(update={"model": model})
        require_usable(asked, itertools.chain(prompts, run.questions), run.tokenizer)
    if not math.floor(config.held_out * len(prompts)):
        raise InputError(
            f"{len(prompts)} prompts leave none to hold out (audit.held_out={config.held_out}): give more prompts, at"
            f" least {math.ceil(1 / config.held_out)}"
        )
    if same_model(run, after):
        run.progress.warn("both models are one: there is nothing to recover, and pairs are told apart by chance alone")
    shared = count_shared(run.questions, prompts)
    if shared:
        run.progress.warn(
            f"{shared} of {len(run.questions)} labelled questions are among the prompts that rewards are fitted to"
        )


def same_model(run: Run, after: ModelConfig) -> bool:
    """Whether both models have the same files."""
    return model_fingerprint(run.recipe.model) == model_fingerprint(after)


def audit_stage(run: Run, after: ModelConfig, config: AuditConfig) -> Audit:
    """Recover the rewards and measure them on held-out prompts; what an interrupted audit finished is kept."""
    _keep_settings(run, after, config)
    prompts = audit_prompts(run)
    measured, _ = measured_traces(run, after, config, prompts, "traces")
    questions = measured_traces(run, after, config, run.questions, "questions")[0] if run.questions else None
    pairs = pair_table(measured)
    first = split(run, config, pairs, 0)
    separation: dict[str, Separation] = {}
    scores: dict[str, FloatArray] = {}
    linear = []
    if config.rewards != "model":
        linear = linear_rewards(run, config, pairs)
        separation["features"] = _of_features(run, config, pairs, linear)
        if questions is not None:
            scores["features"] = linear[0].rewards(features_of(questions))
    if config.rewards != "features":
        folders = train_reward_models(run, config, first.learned_from)
        if folders:
            separation["model"], of_questions = _of_models(run, folders, first.kept_out, questions)
            if questions is not None:
                scores["model"] = of_questions
    found = Audit(
        before=str(run.recipe.model.path),
        after=str(after.path),
        same_model=same_model(run, after),
        objective=config.objective,
        prompts=len(prompts),
        held_out_prompts=len(set(first.kept_out["prompt_id"].to_pylist())),
        pairs=pairs.num_rows,
        identical=sum(row["chosen_ids"] == row["rejected_ids"] for row in pairs.to_pylist()),
        differences=_differences(pairs, first),
        linear=linear[0] if linear else None,
        coefficient_ranges=_ranges(linear),
        separation=separation,
        correctness={} if questions is None else _correctness(questions, scores),
    )
    _write(run, pairs, linear, set(first.kept_out["prompt_id"].to_pylist()))
    write_json(run.folder.path / RESULT, found.model_dump(mode="json"))
    return found


def settings_of(folder: Path) -> dict[str, Any]:
    """What an audit in ``folder`` was begun with; empty where none was."""
    path = folder / SETTINGS
    return read_config(path) if path.is_file() else {}


def _keep_settings(run: Run, after: ModelConfig, config: AuditConfig) -> None:
    settings = {"after": after.path, "audit": config.model_dump(mode="json")}
    kept = settings_of(run.folder.path)
    changed = differences(kept, settings) if kept else []
    if changed:
        raise InputError(
            f"{run.folder.path} was begun with other settings ({'; '.join(changed)}): resume it without these changes,"
            " or choose another --output"
        )
    write_text(run.folder.path / SETTINGS, yaml.safe_dump(settings, sort_keys=False))


def _of_features(run: Run, config: AuditConfig, pairs: pa.Table, linear: Sequence[LinearReward]) -> Separation:
    kept_out = [split(run, config, pairs, number).kept_out for number in range(config.splits)]
    scored = [score_linearly(reward, table) for reward, table in zip(linear, kept_out, strict=True)]
    return _separation(run, scored, kept_out[0])


def _of_models(
    run: Run, folders: Sequence[Path], kept_out: pa.Table, questions: pa.Table | None
) -> tuple[Separation, FloatArray]:
    rows = [] if questions is None else questions.to_pylist()
    sequences = [[*row["prompt_ids"], *row["token_ids"]] for row in rows]
    scored, of_questions = score_by_models(run, folders, kept_out, sequences)
    found = _separation(run, scored, kept_out)
    # What whitening of the rewards in another training reads.
    write_json(run.folder.reward_model / EVALUATION, found.pairs.model_dump(mode="json"))
    return found, of_questions


def _separation(run: Run, scored: Sequence[Sequence[ScoredPair]], kept_out: pa.Table) -> Separation:
    """Of the first of several fits; ``kept_out`` holds its pairs."""
    settings = run.recipe.evaluation
    rewards = np.array([*(p.chosen_reward for p in scored[0]), *(p.rejected_reward for p in scored[0])])
    prompt_ids = 2 * kept_out["prompt_id"].to_pylist()
    chosen, rejected = (features_of(kept_out, f"{side}_") for side in ("chosen", "rejected"))
    features = {name: np.concatenate([chosen[name], rejected[name]]) for name in FEATURES}
    return Separation(
        pairs=reward_accuracy(scored[0], bins=settings.bins, resamples=settings.bootstrap, seed=run.recipe.seed),
        auroc=order_auroc(rewards, [True] * len(scored[0]) + [False] * len(scored[0])),
        kendall={name: within_kendall(rewards, values, prompt_ids) for name, values in features.items()},
        spearman={name: spearman(rewards, values) for name, values in features.items()},
        spread=Spread.of([_pair_accuracy(one) for one in scored]),
    )


def _pair_accuracy(scored: Sequence[ScoredPair]) -> float:
    return float(np.mean([0.5 * (np.sign(pair.chosen_reward - pair.rejected_reward) + 1) for pair in scored]))


def _differences(pairs: pa.Table, parts: Split) -> dict[str, FeatureDifference]:
    after, before = features_of(pairs, "chosen_"), features_of(pairs, "rejected_")
    kept_out, fitted = (_shares_of_more(table) for table in (parts.kept_out, parts.learned_from))
    return {
        name: FeatureDifference(
            before=float(before[name].mean()),
            after=float(after[name].mean()),
            accuracy=kept_out[name],
            accuracy_fitted=fitted[name],
        )
        for name in FEATURES
    }


def _shares_of_more(pairs: pa.Table) -> dict[str, float]:
    """Share of pairs whose chosen trace has more of each feature, equal ones half."""
    chosen, rejected = (features_of(pairs, f"{side}_") for side in ("chosen", "rejected"))
    return {name: float(0.5 * (np.sign(chosen[name] - rejected[name]) + 1).mean()) for name in FEATURES}


def _ranges(linear: Sequence[LinearReward]) -> dict[str, tuple[float, float]]:
    names = linear[0].coefficients if linear else ()
    values = {name: [one.coefficients[name].value for one in linear if name in one.coefficients] for name in names}
    return {name: (min(found), max(found)) for name, found in values.items()}


def _correctness(questions: pa.Table, scores: Mapping[str, FloatArray]) -> dict[str, dict[str, Any]]:
    """Every reward and, beside it, every feature, on the traces of each model and of both."""
    sides, ids = np.array(questions["side"].to_pylist()), np.array(questions["prompt_id"].to_pylist())
    correct = np.array(questions["correct"].to_pylist(), dtype=bool)
    scopes = {**{side: sides == side for side in SIDES}, "both": np.ones(len(sides), dtype=bool)}
    return {
        name: {
            scope: right_and_wrong(values[inside], list(correct[inside]), list(ids[inside]))
            for scope, inside in scopes.items()
        }
        for name, values in {**scores, **features_of(questions)}.items()
    }


def _write(run: Run, pairs: pa.Table, linear: Sequence[LinearReward], kept_out: set[str]) -> None:
    """The pairs, which of them no reward was fitted to, and their linear rewards."""
    pairs = pairs.append_column("held_out", pa.array([one in kept_out for one in pairs["prompt_id"].to_pylist()]))
    if linear:
        for side in ("chosen", "rejected"):
            pairs = pairs.append_column(f"{side}_reward", pa.array(linear[0].rewards(features_of(pairs, f"{side}_"))))
    with atomic_path(run.folder.path / PAIRS) as partial:
        pq.write_table(pairs, partial, compression="zstd")
