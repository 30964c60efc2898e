"""The tables of a comparison: within a hundred columns, every method once, Markdown that holds together."""

from __future__ import annotations

import io
import re

import pytest
from comparison_example import example_comparison
from rich.console import Console

from rlsf.evaluation.comparison_schema import Comparison
from rlsf.report.comparison_table import comparison_table, escaped, markdown


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return example_comparison(broken="out of memory: a|b *c* <d>\nsecond line")


def printed(comparison: Comparison, terminal: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=100, force_terminal=terminal, color_system="standard" if terminal else None
    )
    console.print(comparison_table(comparison))
    return console.file.getvalue()


def test_plain_text_within_a_hundred_columns(comparison: Comparison):
    text = printed(comparison)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert "\x1b" not in text
    for method in comparison.methods:
        assert sum(line.startswith(f"{method.recipe} ") for line in text.splitlines()) == 1
    assert re.search(r"rlsf +2/3 +\d\d\.\d \(\d\d\.\d–\d\d\.\d\) +\+\d+\.\d [▲△·]", text)
    assert re.search(r"rc-rm +0/3 +every run failed", text)


def test_colours_go_with_symbols(comparison: Comparison):
    text = printed(comparison, terminal=True)
    assert re.search(r"\x1b\[1;32m\+\d+\.\d ▲", text)


def test_longest_names_of_recipes_stay_on_a_line(comparison: Comparison):
    renamed = tuple(
        one.model_copy(update={"recipe": "rlif-trajectory-entropy"}) if one.recipe == "rc-rm" else one
        for one in comparison.methods
    )
    text = printed(comparison.model_copy(update={"methods": renamed}))
    assert "rlif-trajectory-entropy " in text


def test_markdown_is_one_table_with_all_figures(comparison: Comparison):
    text = markdown(comparison)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4 + 8
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    for method in comparison.methods:
        row = next(line for line in lines if line.startswith(f"| {method.recipe} |"))
        for name, digits, scale in (("accuracy", 1, 100), ("brier", 3, 1), ("auroc", 3, 1)):
            if method.figures:
                figure = method.figures[name]
                low, high = figure.interval
                assert f"{scale * figure.value:.{digits}f} ({scale * low:.{digits}f}–{scale * high:.{digits}f})" in row
    assert "150 questions" in text
    assert text.count("failed: ") == 4
    assert "seed 2, failed: loss is NaN" in text
    assert "a\\|b \\*c\\* \\<d\\> second line" in text


def test_markdown_signs_are_escaped():
    assert escaped("a_b [c](d) `e`\n#f \\") == "a\\_b \\[c\\](d) \\`e\\` #f \\\\"
