"""Write the settings of every shipped recipe into its page, between their marks: ``python docs/write_settings.py``."""

from __future__ import annotations

from pathlib import Path

from rlsf.recipes.registry import RECIPES, RecipeCard

PAGES = Path(__file__).parent / "recipes"
START, END = "<!-- settings -->", "<!-- end of settings -->"


def settings(card: RecipeCard) -> str:
    """The recipe's file without its comments, which the page tells at more length."""
    lines = [line for line in card.yaml.splitlines() if not line.startswith("#")]
    return "\n".join(("```yaml", *lines, "```"))


def with_settings(page: str, card: RecipeCard) -> str:
    """The text of a page, its settings those of the recipe's file.

    Raises ``ValueError`` for a page without the marks.
    """
    before, opened, rest = page.partition(START)
    _, closed, after = rest.partition(END)
    if not (opened and closed):
        raise ValueError(f"docs/recipes/{card.name}.md lacks the marks {START} and {END}")
    return f"{before}{START}\n\n{settings(card)}\n\n{END}{after}"


if __name__ == "__main__":
    for card in RECIPES.values():
        path = PAGES / f"{card.name}.md"
        path.write_text(with_settings(path.read_text(encoding="utf-8"), card), encoding="utf-8")
