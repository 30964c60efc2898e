"""What data-formats.md and the picture of the rooms say is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import draw_rooms
import pyarrow as pa
import pytest

from rlsf.pipeline.ranking import CONFIDENCE_SCHEMA
from rlsf.preferences import PREFERENCE_SCHEMA
from rlsf.prompts.mapping import ANSWER_NAMES, CHOICES_NAMES, QUESTION_NAMES
from rlsf.prompts.presets import PRESETS
from rlsf.prompts.source import READERS
from rlsf.traces import TRACE_SCHEMA
from test_architecture import ALLOWED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data-formats.md").read_text(encoding="utf-8")


def rows(after: str) -> list[list[str]]:
    """The cells of the first table after a text, without its header."""
    table = re.search(r"^\|.*\n\|[-| ]+\n((?:\|.*\n)+)", PAGE.partition(after)[2], re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()]


@pytest.mark.parametrize(
    ("name", "schema"),
    [("traces", TRACE_SCHEMA), ("pairs", PREFERENCE_SCHEMA), ("confidences", CONFIDENCE_SCHEMA)],
)
def test_columns_are_those_of_the_schema(name: str, schema: pa.Schema) -> None:
    told = [(cells[0].strip("`"), cells[1]) for cells in rows(f"<!-- columns of {name} -->")]
    assert told == [(column.name, str(column.type).replace("item: ", "")) for column in schema]


def test_presets_are_those_of_the_code() -> None:
    told = [tuple(cell.strip("`| ") for cell in cells) for cells in rows("### Presets")]
    known = [(name, preset.hub_id, preset.training_split, preset.test_split) for name, preset in PRESETS.items()]
    assert told == known


def test_names_of_columns_are_those_looked_for() -> None:
    told = {cells[0]: re.findall(r"`(\w+)`", cells[2]) for cells in rows("| `gsm8k:train.jsonl`")}
    assert told["question"] == list(QUESTION_NAMES)
    assert told["options of a multiple-choice question"] == list(CHOICES_NAMES)
    assert told["gold answer"] == list(ANSWER_NAMES)


def test_every_kind_of_file_is_named() -> None:
    told = set(re.findall(r"`[a-z]*(\.[a-z]+)`", PAGE.partition("## Questions")[2].partition("```json")[0]))
    assert told == set(READERS)


def test_every_event_is_told_of() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
    known = set(re.findall(r"""["']event["']: ["'](\w+)["']""", source))
    assert {cells[0].strip("`") for cells in rows("## `metrics.jsonl`")} == known


def test_rooms_are_drawn_in_an_order_in_which_they_may_be_used() -> None:
    order = [room for floor in draw_rooms.FLOORS.values() for room in floor]
    assert sorted(order) == sorted(ALLOWED)
    for place, room in enumerate(order):
        # Those that may use everything are held back by what the others may use.
        assert {used for used in ALLOWED[room] if used != room} <= set(order[:place]) | {"pipeline", "cli", "demo"}
    assert draw_rooms.FIGURE.read_text(encoding="utf-8") == draw_rooms.rooms(), "python docs/draw_rooms.py draws it"
