"""The terminal table: the numbers, within 100 columns, plain when piped."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from rlsf.report.inputs import ReportInputs
from rlsf.report.table import TABLE_WIDTH, summary_table


def printed(summary: Any, *, terminal: bool = False, width: int = TABLE_WIDTH) -> str:
    stream = io.StringIO()
    colours = "standard" if terminal else None
    Console(file=stream, width=width, force_terminal=terminal, color_system=colours).print(summary_table(summary))
    return stream.getvalue()


@pytest.fixture
def wide() -> dict[str, Any]:
    """Every number at its longest."""
    metrics = {"accuracy": 1.0, "ece": 1.0, "brier": 1.0, "auroc": 1.0, "mean_tokens": 31234.5}
    mode = {"n": 500, **metrics, "intervals": {key: [value, value] for key, value in metrics.items()}}
    change = {key: {"value": -value, "interval": [-value, value]} for key, value in metrics.items()}
    modes = ("greedy", "cot_decoding", "majority")
    return {
        "before": dict.fromkeys(modes, mode),
        "after": dict.fromkeys(modes, mode),
        "difference": dict.fromkeys(modes, change),
    }


def test_plain_text_within_a_hundred_columns(inputs: ReportInputs, wide: dict[str, Any]) -> None:
    for summary in (inputs.summary, wide):
        text = printed(summary)
        assert "\x1b" not in text
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 100
        assert [line.split()[0] for line in text.splitlines() if " before " in line] == [
            "Greedy",
            "CoT-decoding",
            "Majority",
        ]
    assert "1.00 (1.00–1.00)" in printed(wide)
    assert "100 (100–100)" in printed(wide)
    assert "−31234" in printed(wide)


def test_eighty_columns_break_every_cell_and_lose_nothing(inputs: ReportInputs, wide: dict[str, Any]) -> None:
    for summary in (inputs.summary, wide):
        narrow = printed(summary, width=80)
        assert "…" not in narrow
        assert max(map(len, narrow.splitlines())) <= 80
        assert sorted(narrow.replace("─", "").split()) == sorted(printed(summary).replace("─", "").split())
        lines = narrow.splitlines()
        for place, line in enumerate(lines):
            if " change " in line:
                assert not re.search("better|worse|unclear", line)
                assert len(re.findall("better|worse|unclear", lines[place + 1])) == 4
            if " before " in line or " after " in line:
                assert "(" not in line
                assert lines[place + 1].count("(") == 4


def test_colours_on_a_terminal(inputs: ReportInputs) -> None:
    assert "\x1b[32m" in printed(inputs.summary, terminal=True)


def test_the_numbers_are_those_of_the_summary(inputs: ReportInputs) -> None:
    assert inputs.summary is not None
    text = printed(inputs.summary)
    after = inputs.summary["after"]["greedy"]
    low, high = after["intervals"]["accuracy"]
    assert f"{100 * after['accuracy']:.1f} ({100 * low:.1f}–{100 * high:.1f})" in text
    assert f"{after['brier']:.3f}"[1:] in text
    assert f"{after['mean_tokens']:.1f}" in text


def test_judgements_stand_in_words() -> None:
    def mode(accuracy: float) -> dict[str, Any]:
        return {"n": 9, "accuracy": accuracy, "ece": 0.1, "brier": 0.1, "auroc": None, "mean_tokens": 5.0}

    summary = {
        "before": {"greedy": mode(0.5)},
        "after": {"greedy": mode(0.9)},
        "difference": {
            "greedy": {
                "accuracy": {"value": 0.4, "interval": [0.3, 0.5]},
                "ece": {"value": 0.2, "interval": [0.1, 0.3]},
                "brier": {"value": 0.0, "interval": [-0.1, 0.1]},
                "auroc": {"value": None, "interval": None},
            }
        },
    }
    change = next(line for line in printed(summary).splitlines() if "change" in line).split()
    assert change == ["change", "+40.0", "better", "+.200", "worse", ".000", "unclear", "n/a", "n/a"]


def test_without_after_there_is_one_line_a_mode(measured_only: ReportInputs) -> None:
    lines = printed(measured_only.summary).splitlines()
    assert len([line for line in lines if line.strip()]) == 2 + 3
    assert "change" not in "".join(lines)
