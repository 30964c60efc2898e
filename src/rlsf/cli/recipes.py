"""``rlsf recipes``: the methods that ship."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding

from rlsf.recipes.registry import RECIPES, Kind, recipe_card

_GROUPS: dict[Kind, str] = {
    "self-feedback": "From own feedback, without labels",
    "labelled": "With gold answers, for comparison",
    "bound": "Bounds to compare with: from above with gold answers, from below without",
}


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
    console = Console()
    for kind, title in _GROUPS.items():
        console.print(f"\n{title}", style="bold")
        for card in (card for card in RECIPES.values() if card.kind == kind):
            console.print(f"  {card.name}", style="cyan", highlight=False, end="")
            console.print(f"  {card.paper}", style="dim", highlight=False, soft_wrap=True)
            console.print(Padding(card.summary, (0, 0, 0, 6)), highlight=False)
