"""The conditioning stage: ranked pairs to comparisons of prompts that a length limit tells apart."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlsf.errors import InputError
from rlsf.pipeline.context import Run
from rlsf.pipeline.manifest import Manifest, finished, require
from rlsf.pipeline.ranking import PAIRS
from rlsf.pipeline.table_file import reading_rows, writing_rows
from rlsf.preferences.conditioned_pairs import (
    CONDITIONED_SCHEMA,
    ConditioningReport,
    Limited,
    Numbers,
    condition_pairs,
)
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.preferences.length_instructions import LengthLimit
from rlsf.prompts import prompts_digest, render
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
    limited = limited_prompts(run.prompts, run.tokenizer, run.recipe.render, config)
    report = ConditioningReport()
    with writing_rows(folder / PAIRS, CONDITIONED_SCHEMA) as write:
        for pairs in reading_rows(run.folder.preferences(round_) / PAIRS):
            conditioned, of_these = condition_pairs(pairs, config, limited, numbers_of_pairs(seed))
            write(conditioned)
            report += of_these
    if report.too_short:
        run.progress.warn(
            f"{run.title('condition', round_)}: {report.too_short} of {report.pairs} pairs have a response of fewer"
            f" than conditioning.minimum_words={config.minimum_words} words and stay ordinary pairs;"
            " where that is most of them, lower it"
        )
    manifest = Manifest("condition", inputs, asdict(report))
    run.metrics.record({"event": "conditioning", "round": round_, **asdict(report)})
    manifest.write(folder)
    return manifest


def pairs_to_learn_from(run: Run, round_: int) -> tuple[Manifest, Path]:
    """The pairs that a round's training reads, and the stage that made them: ranking, or conditioning after it."""
    if run.recipe.conditioning is None:
        folder = run.folder.preferences(round_)
        return require(folder, "rank", f"rank {run.folder.path}"), folder / PAIRS
    return condition_stage(run, round_), run.folder.conditioned(round_) / PAIRS


def limited_prompts(
    prompts: Collection[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    config: RenderConfig,
    conditioning: LengthConditioningConfig,
) -> Limited:
    """Renders a prompt with a limit in its question, as the prompt itself is rendered."""
    find = _Finder(prompts)

    def limited(prompt_id: str, limit: LengthLimit) -> tuple[str, tuple[int, ...]]:
        prompt = find(prompt_id)
        asked = limit.asked_of(prompt.question, conditioning)
        rendered = render(replace(prompt, question=asked), tokenizer, config)
        return rendered.text, rendered.token_ids

    return limited


class _Finder:
    """Finds prompts by their ids, without holding them; those asked for in the order of the prompts in one pass."""

    def __init__(self, prompts: Collection[Prompt]) -> None:
        self._prompts = prompts
        self._found: Prompt | None = None
        self._coming: Iterator[Prompt] = iter(())

    def __call__(self, prompt_id: str) -> Prompt:
        if self._found is None or self._found.id != prompt_id:
            self._found = self._next(prompt_id)
        if self._found is None:  # it came before: begin again
            self._coming = iter(self._prompts)
            self._found = self._next(prompt_id)
        if self._found is None:
            raise InputError(f"prompt {prompt_id!r} has pairs and is not among the prompts: rank the traces again")
        return self._found

    def _next(self, prompt_id: str) -> Prompt | None:
        return next((prompt for prompt in self._coming if prompt.id == prompt_id), None)


def numbers_of_pairs(seed: int) -> Numbers:
    """Random numbers that belong to a pair, whatever other pairs there are."""
    return lambda chosen, rejected: random.Random(derived_seed(seed, chosen, rejected))
