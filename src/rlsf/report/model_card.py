"""README.md of a trained policy: what it is, how it was made, how well it knows what it knows, and how it fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from rlsf import __version__
from rlsf.report.comparison import HEADLINE, compare
from rlsf.report.html import environment_rows
from rlsf.report.inputs import ReportInputs
from rlsf.report.limits import limits
from rlsf.report.verdict import verdict

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def model_card(inputs: ReportInputs) -> str:
    """Markdown with YAML front matter as the Hub reads it.

    No licence is claimed: it follows from the base model's and the data's. A base model from a local folder is
    named without its path and left out of the front matter, where only Hub ids are valid.
    """
    base = inputs.recipe.model.path
    summary = inputs.summary or {}
    comparisons = compare(summary)
    text = (
        _environment()
        .get_template("model_card.md.j2")
        .render(
            front_matter=_front_matter(inputs),
            inputs=inputs,
            recipe=inputs.recipe,
            adapter=inputs.recipe.training.lora is not None,
            base=base if base is None or _from_hub(base) else Path(base).name,
            on_hub=_from_hub(base),
            prompts=_source(inputs.recipe.prompts.path, inputs.recipe.prompts.preset),
            version=__version__,
            metrics=HEADLINE,
            comparisons=comparisons,
            verdict=verdict(comparisons),
            limits=limits(inputs.summary),
            environment=environment_rows(inputs.environment),
            recipe_yaml=yaml.safe_dump(inputs.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        )
    )
    return text


def _front_matter(inputs: ReportInputs) -> str:
    adapter = inputs.recipe.training.lora is not None
    fields: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rlsf", "trl", "dpo", "self-feedback", "calibration"],
    }
    if _from_hub(inputs.recipe.model.path):
        fields["base_model"] = inputs.recipe.model.path
    text = ModelCardData(**fields).to_yaml()
    if "base_model" in fields:
        text += f"\nbase_model_relation: {'adapter' if adapter else 'finetune'}"
    return text


def _from_hub(path: str | None) -> bool:
    """Whether a model was named by its Hub id: transformers takes a folder of that name first."""
    return path is not None and _HUB_ID.fullmatch(path) is not None and not Path(path).exists()


def _source(path: str | None, preset: str | None) -> str:
    """The data set by name, without the folders of the machine it was on."""
    name = None if path is None else path if _HUB_ID.fullmatch(path) and not Path(path).exists() else Path(path).name
    return " ".join(part for part in (f"preset {preset}" if preset else None, name) if part) or "not recorded"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rlsf.report"),
        autoescape=False,  # Markdown; what is put in comes from the recipe and the environment, and is fenced
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment
