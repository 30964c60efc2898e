"""A page for every recipe, a recipe for every page; what they repeat of the recipe's file is what the file says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from write_settings import settings, with_settings

from rlsf.recipes.registry import RECIPES, RecipeCard
from rlsf.recipes.resolve import read_yaml

PAGES = Path(__file__).parents[2] / "docs" / "recipes"
CARDS = pytest.mark.parametrize("card", RECIPES.values(), ids=list(RECIPES))
SECTIONS = ["The method", "What we changed, and why", "Settings as shipped", "When it fails", "Measured"]


def read(card: RecipeCard) -> str:
    return (PAGES / f"{card.name}.md").read_text(encoding="utf-8")


def test_every_recipe_has_a_page_and_every_page_a_recipe() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} - {"index"} == set(RECIPES)


@CARDS
def test_a_page_has_what_every_page_has(card: RecipeCard) -> None:
    page = read(card)
    assert page.startswith(f"# `{card.name}`: ")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SECTIONS
    assert f"rlsf demo --recipe {card.name} " in page
    assert f"rlsf run --recipe {card.name} " in page
    measured = page.partition("## Measured")[2]
    assert re.search(r"^<!-- measured -->\n(?s:.*)^<!-- end of measured -->$", measured, re.MULTILINE)


@CARDS
def test_the_papers_are_those_of_the_registry(card: RecipeCard) -> None:
    ids = re.findall(r"\d{4}\.\d{5}", card.paper)
    assert ids
    row = next(line for line in read(card).splitlines() if line.startswith("| paper |"))
    assert [id for id in ids if f"](https://arxiv.org/abs/{id})" not in row] == []


@CARDS
def test_gold_answers_are_told_of_as_the_registry_does(card: RecipeCard) -> None:
    row = next(line for line in read(card).splitlines() if line.startswith("| gold answers |"))
    assert ("**needed**" in row) == card.needs_labels
    assert row.startswith("| gold answers | none") != card.needs_labels


@CARDS
def test_settings_are_those_of_the_file(card: RecipeCard) -> None:
    page = read(card)
    assert with_settings(page, card) == page, "python docs/write_settings.py writes them"
    block = settings(card).removeprefix("```yaml\n").removesuffix("\n```")
    assert read_yaml(block, "page") == read_yaml(card.yaml, "file")


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the marks"):
        with_settings("# a page", RECIPES["rlsf"])


def test_the_overview_has_every_recipe_in_the_table_of_its_kind() -> None:
    index = (PAGES / "index.md").read_text(encoding="utf-8")
    tables = {"Without gold answers": "self-feedback", "With gold answers": "labelled", "To compare with": "bound"}
    for title, kind in tables.items():
        section = index.partition(f"## {title}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| \[`(.*?)`\]\((.*?)\.md\)", section, re.MULTILINE)
        assert rows == [(card.name, card.name) for card in RECIPES.values() if card.kind == kind]
