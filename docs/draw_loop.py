"""Draw how-it-works.md's picture from a run of the recipe ``rlsf``: ``python docs/draw_loop.py RUN_FOLDER``.

Every word and number in its boxes is the run's.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from _drawing import EDGE, Sheet, box, words

from rlsf.files import read_json
from rlsf.report.svg import AFTER, BEFORE, LINE, MUTED, PAPER

FIGURES = Path(__file__).parent / "figures"
LETTERS, SHOWN, SURE = 60, 5, 0.9


@dataclass(frozen=True)
class Branch:
    """A trace, its text cut at its answer, and its confidence."""

    before: str
    answer: str
    after: str
    confidence: float

    @property
    def colour(self) -> str:
        return AFTER if self.confidence >= SURE else BEFORE

    @property
    def quoted(self) -> str:
        return escape(f"“{self.before}{self.answer}{self.after}”")


def branches(run: Path) -> tuple[str, list[Branch]]:
    """The first question whose likeliest branches are short, differ in their answers, and begin with an unsure one."""
    ranked = run / "preferences/round-1"
    confidences = {
        (row["prompt_id"], row["index"]): row["confidence"]
        for row in pq.read_table(ranked / "confidences.parquet").to_pylist()
    }
    traces: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(sorted((run / "traces/round-1").glob("part-*.parquet"))).to_pylist():
        traces.setdefault(row["prompt_id"], []).append(row)
    for pair in pq.read_table(ranked / "pairs.parquet").to_pylist():
        rows = sorted(traces[pair["prompt_id"]], key=lambda row: row["index"])[:SHOWN]
        if all(row["answer"] and len(row["text"]) < LETTERS for row in rows):
            shown = [_branch(row, confidences[row["prompt_id"], row["index"]]) for row in rows]
            sure = [branch.confidence >= SURE for branch in shown]
            if any(sure) and not sure[0] and len({branch.answer for branch in shown}) > 2:
                return pair["prompt"].strip().removeprefix("Q:").removesuffix("A:").strip(), shown
    raise ValueError(f"{run} has no question that shows the method: use a run of the recipe rlsf by rlsf demo")


def _branch(row: dict[str, Any], confidence: float) -> Branch:
    """The answer stands where it occurs last."""
    return Branch(*row["text"].strip().rpartition(row["answer"]), confidence)


def loop(run: Path) -> str:
    """The whole picture."""
    question, rows = branches(run)
    surest, least = (choose(rows, key=lambda row: row.confidence) for choose in (max, min))
    sheet = Sheet("From questions without answers to a measured model, in six steps")
    sheet.step(1, "A question, no answer known")
    sheet.lines(*map(escape, textwrap.wrap(question, LETTERS)))
    sheet.step(2, "Several ways to begin, each continued")
    sheet.step(3, "How sure was it of the answer?")
    for row in rows:
        sheet.add(_row(sheet.y, row), 40)
    sheet.y += 20
    sheet.step(4, "The sure ones are preferred to the others")
    sheet.lines(
        f'<tspan fill="{AFTER}" font-weight="600">{surest.quoted}</tspan>',
        f'<tspan fill="{BEFORE}">is preferred to   {least.quoted}</tspan>',
    )
    sheet.step(5, "These preferences train the model (DPO)")
    sheet.lines(
        "loss = −log σ(β [log π/π₀(preferred) − log π/π₀(other)])",
        "+ a likelihood term of the preferred one",
    )
    sheet.step(6, "Measured on others, with known answers")
    sheet.add(_measured(sheet.y, read_json(run / "evaluation" / "summary.json")), 112 + EDGE)
    return sheet.svg()


def _row(y: float, row: Branch) -> str:
    """A branch, its answer marked, and a bar for its confidence."""
    mark = f'<tspan fill="{row.colour}" font-weight="700" text-decoration="underline">{escape(row.answer)}</tspan>'
    left, length = 580, 96
    place = f'x="{left}" y="{y + 10:g}" height="18" rx="3"'
    bar = (
        f'<rect {place} width="{length}" fill="{PAPER}" stroke="{LINE}"/>'
        f'<rect {place} width="{length * row.confidence:.1f}" fill="{row.colour}"/>'
    )
    said = words(EDGE + 16, y + 24, escape(row.before) + mark + escape(row.after), 18)
    return box(y, 36) + said + bar + words(left + length + 6, y + 25, f"{row.confidence:.2f}", 18, row.colour)


def _measured(y: float, summary: dict[str, Any]) -> str:
    """Accuracy and calibration error of greedy decoding, before and after."""
    before, after = (summary[phase]["greedy"] for phase in ("before", "after"))
    return (
        box(y, 112)
        + _change(EDGE + 16, y, "right answers", *(f"{100 * one['accuracy']:.1f}\u202f%" for one in (before, after)))
        + _change(EDGE + 396, y, "ECE", *(f"{one['ece']:.3f}" for one in (before, after)))
    )


def _change(x: float, y: float, name: str, before: str, after: str) -> str:
    told = f'<tspan fill="{BEFORE}">{before}</tspan>  →  <tspan fill="{AFTER}" font-weight="700">{after}</tspan>'
    return words(x, y + 32, f"{name}, greedy decoding", 18, MUTED) + words(x, y + 80, told, 30)


if __name__ == "__main__":
    (FIGURES / "how-it-works.svg").write_text(loop(Path(sys.argv[1])), encoding="utf-8")
