"""What is scored, with which model, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from rlsf.answers.config import AnswerConfig
from rlsf.config import Section
from rlsf.errors import InputError, near_names
from rlsf.models.config import ModelConfig
from rlsf.recipes.resolve import flatten, merge, resolve


class CompletionColumns(Section):
    """Which column holds what; a dot enters nested fields (``body.prompt``), ``[0]`` an element of a list."""

    prompt: str | None = None
    """The text or the messages that the model went on from; by default ``prompt`` or ``messages``."""
    completion: str | None = None
    """What it wrote; by default ``completion``, ``completions``, ``response``, ``responses``, ``outputs`` or
    OpenAI's ``choices``."""
    prompt_token_ids: str | None = None
    """By default ``prompt_token_ids`` or ``prompt_ids``; they win over the text."""
    token_ids: str | None = None
    """By default ``token_ids``, ``completion_token_ids`` or ``completion_ids``; they win over the text."""
    id: str | None = None
    """The prompt's id; by default ``prompt_id``, ``id`` or ``request_id``, else prompts are counted from 1."""
    finish_reason: str | None = None
    """Why the completion ended; by default ``finish_reason``. What was cut at the token budget says ``length``."""
    choices: str | None = None
    """The options of a multiple-choice question; by default ``options`` or ``choices``."""


class ScoringConfig(Section):
    """Traces to score and the model to score them with."""

    model: ModelConfig
    traces: str
    """A Parquet file or folder of shards of ours, a run folder, or JSON lines or Parquet of another engine."""
    positions: Literal["completion", "answer"] = "completion"
    """Score every token of a completion, or those of its answer alone."""
    columns: CompletionColumns = CompletionColumns()
    answer: AnswerConfig = AnswerConfig()
    """How answers are found in completions of another engine; our own traces keep theirs."""
    chat_arguments: dict[str, Any] = Field(default_factory=dict)
    """Variables of the chat template, for prompts that are messages."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one forward pass, padding included: bounds memory. By default what ``Scorer`` finds fit."""
    shard_traces: int = Field(default=4096, ge=1)
    """Traces of an output file: what is held in memory, and what a resumed run need not do again."""


#: What of a recipe has a meaning where traces are only read.
_OF_A_RECIPE = ("model", "answer", "render.chat_arguments")


def scoring_config(kept: Mapping[str, Any], said: Mapping[str, Any], overrides: Mapping[str, Any]) -> ScoringConfig:
    """The configuration ``kept`` of a run that goes on, under what is ``said`` and under dotted ``overrides``.

    Raises ``InputError`` for a key that has no meaning here, and where model or traces are missing.
    """
    for key, _ in flatten(overrides):
        if not key.startswith(_OF_A_RECIPE):
            known = (*_OF_A_RECIPE, *(f"columns.{name}" for name in CompletionColumns.model_fields))
            raise InputError(
                f"--{key} means nothing to `rlsf score`{near_names(key, known)}: of a recipe's keys it takes those of"
                f" {', '.join(_OF_A_RECIPE)}"
            )
    of_recipe = {name: kept[name] for name in ("model", "answer") if name in kept}
    of_recipe["render"] = {"chat_arguments": kept.get("chat_arguments", {})}
    recipe = resolve(None, None, merge(of_recipe, overrides))
    layer = merge(kept, said)
    if recipe.model.path is None:
        raise InputError("no model: say --model FOLDER_OR_HUB_ID")
    if recipe.model.server is not None:
        raise InputError("`rlsf score` reads traces with a model in this process: leave model.server out")
    if "traces" not in layer:
        raise InputError("nothing to score: say --traces FILE_OR_FOLDER")
    layer |= {"model": recipe.model, "answer": recipe.answer, "chat_arguments": recipe.render.chat_arguments}
    return ScoringConfig.model_validate(layer)
