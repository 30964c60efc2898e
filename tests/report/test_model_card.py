"""The model card: front matter that the Hub accepts, the numbers, and no traces of the machine it was made on."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from rlsf.recipes.recipe import Recipe
from rlsf.report.inputs import ReportInputs
from rlsf.report.model_card import model_card


def front_matter(card: str) -> dict[str, Any]:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def changed(inputs: ReportInputs, **sections: Any) -> ReportInputs:
    data = inputs.recipe.model_dump(mode="json")
    for name, values in sections.items():
        data[name] = {**(data[name] or {}), **values}
    return dataclasses.replace(inputs, recipe=Recipe.model_validate(data))


def test_front_matter(inputs: ReportInputs) -> None:
    card = model_card(inputs)
    assert front_matter(card) == {
        "base_model": "example/tiny-reasoner",
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rlsf", "trl", "dpo", "self-feedback", "calibration"],
    }
    assert ModelCard(card).data.base_model == "example/tiny-reasoner"


def test_data_from_the_hub_are_named_as_such(inputs: ReportInputs) -> None:
    assert front_matter(model_card(changed(inputs, prompts={"path": "openai/gsm8k"})))["datasets"] == ["openai/gsm8k"]


def test_an_adapter_says_so(inputs: ReportInputs) -> None:
    card = model_card(changed(inputs, training={"lora": {"rank": 4}}))
    assert front_matter(card)["library_name"] == "peft"
    assert front_matter(card)["base_model_relation"] == "adapter"
    assert "AutoPeftModelForCausalLM" in card
    assert "AutoPeftModelForCausalLM" not in model_card(inputs)


def test_local_paths_stay_private(inputs: ReportInputs, tmp_path: Path) -> None:
    model, questions = tmp_path / "secret-place" / "my-model", tmp_path / "secret-place" / "questions.jsonl"
    model.mkdir(parents=True)
    questions.touch()
    local = changed(
        inputs,
        model={"path": str(model)},
        prompts={"path": str(questions)},
        evaluation_data={"path": str(questions)},
    )
    card = model_card(local)
    assert "base_model" not in front_matter(card)
    assert "secret-place" not in card
    assert card.count("questions.jsonl") == 4
    assert "`my-model`" in card


def test_a_folder_named_like_a_hub_id_is_local(
    inputs: ReportInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example" / "tiny-reasoner").mkdir(parents=True)
    assert "base_model" not in front_matter(model_card(inputs))


def test_the_table_is_well_formed_and_holds_the_numbers(inputs: ReportInputs) -> None:
    assert inputs.summary is not None
    rows = [
        line for line in model_card(inputs).splitlines() if re.match(r"\| (\w.*)?\| (before|after|difference) \|", line)
    ]
    assert len(rows) == 9
    assert {row.count("|") for row in rows} == {8}
    after = inputs.summary["after"]["greedy"]
    low, high = after["intervals"]["ece"]
    assert f"{after['ece']:.3f} ({low:.3f}–{high:.3f})" in rows[1]


def test_what_every_card_must_say(inputs: ReportInputs) -> None:
    card = model_card(inputs)
    for phrase in (
        "No labels were used",
        "Self-reward collapse",
        "Over-confidence on copied answers",
        "Likelihood displacement",
        "1752 preference pairs",
        "| seed | 0 |",
        "torch 2.13.0",
        "step 60 of 80",
        "200 questions of test.jsonl; 95 %",
        "all_pairs, chosen from confidence 0.9",
        "batches of 16 pairs, learning rate 3e-05",
        "from_pretrained",
        "none is granted here",
    ):
        assert phrase in card, phrase
    assert "license" not in front_matter(card)


def test_the_recipe_can_be_read_back(inputs: ReportInputs) -> None:
    text = model_card(inputs).split("```yaml\n")[1].split("```")[0]
    assert Recipe.model_validate(yaml.safe_load(text)) == inputs.recipe


def test_a_recipe_with_fences_stays_inside_its_fence(inputs: ReportInputs) -> None:
    fenced = changed(inputs, render={"few_shot": "Q\n````\ncode\n````\nA"})
    text = model_card(fenced).split("`````yaml\n")[1].split("\n`````\n")[0]
    assert Recipe.model_validate(yaml.safe_load(text)) == fenced.recipe


def test_an_unmeasured_policy_is_called_unmeasured(inputs: ReportInputs) -> None:
    card = model_card(dataclasses.replace(inputs, summary=None))
    assert "has not been evaluated" in card
    assert "read for the evaluation below" not in card
