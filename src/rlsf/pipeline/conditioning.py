"""The conditioning stage: ranked pairs to comparisons of prompts that a length limit tells apart."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from rlsf.files import atomic_path
from rlsf.pipeline.context import Run, prompts_digest
from rlsf.pipeline.manifest import Manifest, finished, require
from rlsf.pipeline.ranking import PAIRS
from rlsf.preferences.conditioned_pairs import Limited, Numbers, condition_pairs
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.preferences.length_instructions import LengthLimit
from rlsf.prompts import render
from rlsf.prompts.config import RenderConfig
from rlsf.prompts.prompt import Prompt
from rlsf.sampling.randomness import derived_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def condition_stage(run: Run, round_: int) -> Manifest:
    """Write the ranked pairs of a round with their comparisons of prompts (arXiv 2502.00814) beside the pairs."""
    config = run.recipe.conditioning
    assert config is not None
    ranked = require(run.folder.preferences(round_), "rank", f"rank {run.folder.path}")
    seed = derived_seed(run.recipe.seed, "condition", round_)
    inputs = {
        "preferences": ranked.digest,
        "prompts": prompts_digest(run.prompts),
        "render": run.recipe.render.model_dump(mode="json"),
        "conditioning": config.model_dump(mode="json"),
        "seed": seed,
    }
    folder = run.folder.conditioned(round_)
    done = finished(folder, "condition", inputs)
    if done is not None:
        return done
    pairs, report = condition_pairs(
        pq.read_table(run.folder.preferences(round_) / PAIRS),
        config,
        limited_prompts(run.prompts, run.tokenizer, run.recipe.render, config),
        numbers_of_pairs(seed),
    )
    if report.too_short:
        run.progress.warn(
            f"{run.title('condition', round_)}: {report.too_short} of {report.pairs} pairs have a response of fewer"
            f" than conditioning.minimum_words={config.minimum_words} words and are compared in no other way"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / PAIRS) as partial:
        pq.write_table(pairs, partial, compression="zstd")
    manifest = Manifest("condition", inputs, asdict(report))
    manifest.write(folder)
    run.metrics.record({"event": "conditioning", "round": round_, **asdict(report)})
    return manifest


def pairs_to_learn_from(run: Run, round_: int) -> tuple[Manifest, Path]:
    """The pairs that a round's training reads, and the stage that made them: ranking, or conditioning after it."""
    if run.recipe.conditioning is None:
        folder = run.folder.preferences(round_)
        return require(folder, "rank", f"rank {run.folder.path}"), folder / PAIRS
    return condition_stage(run, round_), run.folder.conditioned(round_) / PAIRS


def limited_prompts(
    prompts: Iterable[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    config: RenderConfig,
    conditioning: LengthConditioningConfig,
) -> Limited:
    """Renders a prompt with a limit in its question, as the prompt itself is rendered."""
    known = {prompt.id: prompt for prompt in prompts}

    def limited(prompt_id: str, limit: LengthLimit) -> tuple[str, tuple[int, ...]]:
        prompt = known[prompt_id]
        asked = limit.asked_of(prompt.question, conditioning)
        rendered = render(replace(prompt, question=asked), tokenizer, config)
        return rendered.text, rendered.token_ids

    return limited


def numbers_of_pairs(seed: int) -> Numbers:
    """Random numbers that belong to a pair, whatever other pairs there are."""
    return lambda chosen, rejected: random.Random(derived_seed(seed, chosen, rejected))
