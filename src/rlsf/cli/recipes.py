"""``rlsf recipes``: the methods that ship."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from rlsf.recipes.registry import RECIPES, recipe_card


def recipes(name: str | None = None, /) -> None:
    """List the shipped recipes, or print one.

    Parameters
    ----------
    name:
        Print this recipe's file.
    """
    if name is not None:
        print(recipe_card(name).yaml, end="")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("recipe", "what it does", "paper", "kind", "labels"):
        table.add_column(title, no_wrap=title in ("recipe", "kind"))
    for card in RECIPES.values():
        labels = "needed" if card.needs_labels else "not needed"
        table.add_row(card.name, card.summary, card.paper, card.kind, labels)
    Console().print(table)
