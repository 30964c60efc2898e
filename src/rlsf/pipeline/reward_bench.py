"""Pairs of texts in RewardBench's format (arXiv 2403.13787), scored by a reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rlsf.errors import InputError
from rlsf.evaluation.length_bias import LengthBias
from rlsf.evaluation.reward_accuracy import RewardAccuracy, reward_accuracy
from rlsf.files import digest
from rlsf.models import ModelConfig, context_length, has_chat_template, load_tokenizer
from rlsf.models.reward_model import load_reward_model
from rlsf.pipeline.conditioning import limited_prompts, numbers_of_pairs
from rlsf.pipeline.length_bias import measure_length_bias
from rlsf.pipeline.reward_modelling import score_pairs
from rlsf.preferences import PREFERENCE_SCHEMA
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.prompts import Prompt, render
from rlsf.prompts.config import PromptConfig, RenderConfig
from rlsf.prompts.fields import Row, get_field
from rlsf.prompts.rendering import encode_plain
from rlsf.prompts.source import open_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What was measured, and how many pairs were left out because a trace exceeds the model's context."""

    accuracy: RewardAccuracy
    too_long: int
    length_bias: LengthBias


def evaluate_reward_model(
    model: ModelConfig,
    data: PromptConfig | Path,
    render_config: RenderConfig | None = None,
    conditioning: LengthConditioningConfig | None = None,
    *,
    bins: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> BenchmarkResult:
    """Accuracy, calibration and length bias of a reward model on pairs of texts.

    ``data`` is any source of records (JSON lines, Parquet, CSV, a dataset on the hub) with ``prompt``, ``chosen``,
    ``rejected`` and, at will, ``subset``; rows with the same prompt are pairs of one prompt, whatever their ids. A
    prompt is rendered as a question to the policy is; the answer follows it, and the end-of-sequence token, as in a
    trace that ended by itself. ``conditioning`` says how length limits are drawn and worded. Raises ``InputError`` for
    a missing or empty text, with its line, and where there are no pairs or none fits the model's context.
    """
    source = data if isinstance(data, PromptConfig) else PromptConfig(path=str(data))
    tokenizer, config = load_tokenizer(model), render_config or RenderConfig()
    pairs = [read_pair(row, tokenizer, config) for row in open_rows(source)()]
    if not pairs:
        raise InputError(f"{source.path}: no pairs in it: give rows with {', '.join(TEXTS)}")
    loaded = load_reward_model(model)
    context = context_length(loaded)
    fitting = [pair for pair in pairs if context is None or _length(pair) <= context]
    if not fitting:
        raise InputError(
            f"{source.path}: none of {len(pairs)} pairs fits the reward model's context of {context} tokens"
        )
    limits = conditioning or LengthConditioningConfig()
    return BenchmarkResult(
        accuracy=reward_accuracy(score_pairs(loaded, fitting), bins=bins, resamples=resamples, seed=seed),
        too_long=len(pairs) - len(fitting),
        length_bias=measure_length_bias(
            loaded,
            _ranked(fitting),
            limits,
            limited_prompts(_prompts(fitting), tokenizer, config, limits),
            numbers_of_pairs(seed),
            resamples=resamples,
            seed=seed,
        ),
    )


def _prompts(pairs: Sequence[Mapping[str, Any]]) -> list[Prompt]:
    questions = {pair["prompt_id"]: pair["prompt"] for pair in pairs}
    return [Prompt(prompt_id, question) for prompt_id, question in questions.items()]


def _ranked(pairs: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Pairs as ranking writes them; the same answer in several pairs of a prompt is one trace."""
    rows = [
        {**pair, **{f"{side}_trace_id": digest([pair["prompt_id"], pair[side]]) for side in TEXTS[1:]}}
        for pair in pairs
    ]
    return pa.Table.from_pylist(rows, schema=PREFERENCE_SCHEMA)


def read_pair(row: Row, tokenizer: PreTrainedTokenizerBase, config: RenderConfig) -> dict[str, Any]:
    """The token ids of a row's texts, in the columns of a preference pair."""
    texts = {name: _text(row, name) for name in TEXTS}
    prompt = render(Prompt(row.place, texts["prompt"]), tokenizer, config)
    # Without a chat template the prompt ends in "A:", which an answer follows after a space.
    plain = config.chat == "never" or not has_chat_template(tokenizer)
    space = " " if plain and not prompt.text[-1:].isspace() else ""
    ends: list[Any] = [tokenizer.eos_token_id]
    return {
        **texts,
        "prompt_id": digest(texts["prompt"]),
        "prompt_ids": list(prompt.token_ids),
        "subset": str(row.record.get("subset") or ""),
        **{f"{side}_ids": [*encode_plain(space + texts[side].strip(), tokenizer), *ends] for side in TEXTS[1:]},
    }


def _text(row: Row, name: str) -> str:
    value = get_field(row, name)
    if not isinstance(value, str):
        raise InputError(
            f"{row.place}: {name!r} is no text but {type(value).__name__}: give the text itself, not a list of messages"
        )
    if not value.strip():
        raise InputError(f"{row.place}: {name!r} is empty: give its text, or leave the pair out")
    return value


def _length(pair: dict[str, Any]) -> int:
    return len(pair["prompt_ids"]) + max(len(pair["chosen_ids"]), len(pair["rejected_ids"]))
