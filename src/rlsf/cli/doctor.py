"""``rlsf doctor``: what is installed, which code computes what here, and what is amiss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from rlsf.cli.options import RecipeOptions
from rlsf.errors import InputError
from rlsf.recipes.resolve import flatten, merge, parse_overrides, resolve

if TYPE_CHECKING:
    from rlsf.pipeline.finding import Finding

ModelOverrides = Annotated[
    str,
    Parameter(
        name="MODEL.KEY=VALUE",
        allow_leading_hyphen=True,
        help="How the model is loaded, for example --model.dtype bfloat16.",
    ),
]


def doctor(*overrides: ModelOverrides, model: str | None = None) -> None:
    """Show what is installed, which code computes what on this machine, how a model is scored, and what is amiss.

    Parameters
    ----------
    model:
        Look at this model, too: a folder or a hub id.
    """
    layer = merge(RecipeOptions(model=model).layer(), parse_overrides(overrides))
    for key, _ in flatten(layer):
        if key and not key.startswith("model."):
            raise InputError(f"--{key} means nothing to `rlsf doctor`: it takes --model and keys of model")
    config = resolve(None, None, layer).model if layer else None

    from rlsf.pipeline.diagnosis import diagnose

    show(diagnose(config), Console())


def show(groups: Sequence[Sequence[Finding]], console: Console) -> None:
    """Print facts in groups, then what is amiss."""
    from rlsf.pipeline.finding import Fact

    table = Table(Column(no_wrap=True, style="bold"), Column(), box=None, show_header=False, pad_edge=False)
    for number, group in enumerate(groups):
        if number:
            table.add_row()
        for finding in group:
            if isinstance(finding, Fact):
                table.add_row(finding.name, Text(finding.text))
    console.print(table, highlight=False)
    complaints = [finding.text for group in groups for finding in group if not isinstance(finding, Fact)]
    console.print()
    for complaint in complaints:
        console.print(Text(f"warning: {complaint}", style="yellow"))
    if not complaints:
        console.print(Text("nothing amiss", style="green"))
