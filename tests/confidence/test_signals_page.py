"""The example of docs/signals.md runs and prints what the page says; its table names every signal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlsf.confidence import SIGNALS

PAGE = Path(__file__).parents[2] / "docs" / "signals.md"
LINE = re.compile(r"(?P<answer>[0-9.]+)  (?P<trace>[0-9.]+)  (?P<text>.+)")


def test_the_example_prints_what_is_stated(capsys: pytest.CaptureFixture[str]) -> None:
    code, stated = re.findall(
        r"^```(?:python)?\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    exec(compile(code, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    expected, found = (list(LINE.finditer(lines)) for lines in (stated, printed))
    assert len(expected) == 5
    assert [line["text"] for line in found] == [line["text"] for line in expected]
    for name in ("answer", "trace"):
        # A processor's own rounding may move the last digit shown.
        assert [float(line[name]) for line in found] == pytest.approx(
            [float(line[name]) for line in expected], abs=2e-3
        )


def test_the_table_names_every_signal_in_order() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page.split("| name | raw quantity |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(SIGNALS)
