"""Draw the README's figures from a run: ``python docs/draw_figures.py RUN_FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from rlsf.files import read_json
from rlsf.report.comparison import compare
from rlsf.report.figures import curve_rows, headline_figures

FIGURES = Path(__file__).parent / "figures"


def standalone(svg: str) -> str:
    """A drawing of the report with what it takes from the page: a font and a background."""
    opening, rest = svg.split(">", 1)
    return f'{opening} font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="#fcfbf7"/>{rest}\n'


def main(run: Path) -> None:
    """Accuracy of all modes; reliability, and risk over coverage, of greedy decoding."""
    summary = read_json(run / "evaluation" / "summary.json")
    rows = {row.key: row.drawings[0] for row in curve_rows(summary)}
    drawings = {
        "accuracy": headline_figures(compare(summary))[0],
        "reliability": rows["reliability"],
        "risk-coverage": rows["risk_coverage"],
    }
    FIGURES.mkdir(exist_ok=True)
    for name, drawing in drawings.items():
        (FIGURES / f"{name}.svg").write_text(standalone(drawing.svg), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
