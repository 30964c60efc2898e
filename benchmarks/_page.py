"""Tables that benchmarks write into Markdown pages, between marks that name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlsf.pipeline.environment import describe_environment

#: Header and rows.
Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def write_tables(
    page: Path, tables: Mapping[str, Table], took: str = "", environment: Mapping[str, Any] | None = None
) -> None:
    """Put each table between ``<!-- NAME -->`` and ``<!-- end of NAME -->``, under a line that names the machine.

    ``took``: how long it took, for the same line. ``environment``: the machine as a run folder keeps it, by default
    this one.

    Raises ``ValueError`` for a page without these marks.
    """
    known, text = environment or describe_environment(), page.read_text(encoding="utf-8")
    parts = [f"{known['cores']} cores", known["processor"], *known["accelerators"]]
    parts += [f"{name} {known['packages'][name]}" for name in ("torch", "transformers")]
    made = f"{', '.join(parts)}. {took}".rstrip()
    for name, (header, rows) in tables.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, opened, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (opened and closed):
            raise ValueError(f"{page} lacks the marks {start} and {end}")
        text = f"{before}{start}\n\n{made}\n\n{to_markdown(header, rows)}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def to_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))
