"""README.md of a trained policy: what it is, how it was made, how well it knows what it knows, and how it fails."""

from __future__ import annotations

import re
from typing import Any

import yaml
from huggingface_hub import ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from rlsf import __version__
from rlsf.recipes.recipe import Recipe
from rlsf.report.comparison import HEADLINE, compare
from rlsf.report.html import environment_rows
from rlsf.report.inputs import ReportInputs
from rlsf.report.limits import limits
from rlsf.report.method import algorithm, bound, judged_by, learns_the_majority, paper, rewards, tags
from rlsf.report.names import is_hub_id, short_name
from rlsf.report.verdict import verdict


def model_card(inputs: ReportInputs) -> str:
    """Markdown with YAML front matter as the Hub reads it.

    No licence is claimed: it follows from the base model's and the data's. Local models and files are named
    without their folders, and a local base model is left out of the front matter, where only Hub ids are valid.
    """
    recipe, measured = inputs.recipe, inputs.recipe.evaluation_data
    comparisons = compare(inputs.summary or {})
    recipe_yaml = yaml.safe_dump(_without_folders(recipe), sort_keys=False, allow_unicode=True)
    return (
        _environment()
        .get_template("model_card.md.j2")
        .render(
            front_matter=_front_matter(recipe),
            inputs=inputs,
            recipe=recipe,
            algorithm=algorithm(recipe),
            rewards=rewards(recipe),
            judged_by=judged_by(recipe),
            bound=bound(recipe),
            majority=learns_the_majority(recipe),
            paper=paper(recipe),
            adapter=recipe.lora is not None,
            base=short_name(recipe.model.path),
            prompts=_data_name(recipe.prompts.preset, recipe.prompts.path) or "not recorded",
            measured_on=_data_name(measured.preset, measured.path) if measured else "",
            learning_rate=next(
                (f"{choice.learning_rate:g}" for choice in inputs.checkpoints if choice.learning_rate is not None),
                recipe.learning_rate,
            ),
            version=__version__,
            metrics=HEADLINE,
            comparisons=comparisons,
            verdict=verdict(comparisons),
            limits=limits(inputs.summary, inputs.learned_questions, supervised=recipe.needs_labels),
            environment=environment_rows(inputs.environment),
            recipe_yaml=recipe_yaml,
            fence="`" * max(3, *(len(run) + 1 for run in re.findall("`+", recipe_yaml)), 0),
        )
    )


def _front_matter(recipe: Recipe) -> str:
    adapter = recipe.lora is not None
    fields: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": tags(recipe),
    }
    if is_hub_id(recipe.model.path):
        fields["base_model"] = recipe.model.path
        fields["base_model_relation"] = "adapter" if adapter else "finetune"
    if is_hub_id(recipe.prompts.path) and "/" in str(recipe.prompts.path):
        fields["datasets"] = [recipe.prompts.path]
    return ModelCardData(**fields).to_yaml()


def _data_name(preset: str | None, path: str | None) -> str:
    """Preset and source of questions, as far as given."""
    return " ".join(filter(None, (preset, short_name(path))))


def _without_folders(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data, its paths shortened to names: a published card tells nothing of a private machine."""
    data = recipe.model_dump(mode="json")
    for section in ("model", "prompts", "evaluation_data"):
        if data.get(section) and data[section].get("path"):
            data[section]["path"] = short_name(data[section]["path"])
    return data


def _environment() -> Environment:
    """Markdown is not HTML: nothing is escaped, and nothing that a model wrote is put in."""
    return Environment(
        loader=PackageLoader("rlsf.report"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
