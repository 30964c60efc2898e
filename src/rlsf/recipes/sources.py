"""Model and questions, as a user names them, as a layer of a recipe."""

from __future__ import annotations

from typing import Any

from rlsf.prompts import prompt_source, with_defaults

#: What of the configuration of prompts says where they come from, as opposed to how they are read.
_SOURCE = {"path", "preset", "subset", "split"}


def source_layer(model: str | None, prompts: str | None, eval_data: str | None) -> dict[str, Any]:
    """The model (a folder or a hub id), the questions to learn from and those to measure on; None: not said.

    Raises ``InputError`` for a file that does not exist and for an unknown preset.
    """
    layer: dict[str, Any] = {}
    if model is not None:
        layer["model"] = {"path": model}
    if prompts is not None:
        layer["prompts"] = _source(prompts, evaluation=False)
    if eval_data is not None:
        layer["evaluation_data"] = _source(eval_data, evaluation=True)
    return layer


def _source(said: str, *, evaluation: bool) -> dict[str, Any]:
    return with_defaults(prompt_source(said), evaluation=evaluation).model_dump(include=_SOURCE)
