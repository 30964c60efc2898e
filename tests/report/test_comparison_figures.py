"""The figures that the benchmark of all recipes writes: readable on any page, and the same each time."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from comparison_example import example_comparison

from rlsf.evaluation.comparison_schema import Comparison
from rlsf.report.comparison import ECE
from rlsf.report.comparison_plots import MARKS, cost_plot, scatter_plot
from rlsf.report.comparison_view import GROUPS, rows
from rlsf.report.svg import standalone_svg

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from _comparison_figures import write_figures

MEASURED = ["before", "rlsf", "intuitor", "drr", "rlcr", "grpo-gold", "random-pairs"]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return example_comparison()


@pytest.fixture(scope="module")
def files(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("figures") / "new"
    write_figures(comparison, folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def texts(svg: str) -> list[str]:
    return [str(one.text) for one in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_every_method_is_named_and_every_mark_explained(files: dict[str, str]):
    assert set(files) == {"comparison-calibration", "comparison-cost"}
    for svg in files.values():
        found = texts(svg)
        assert [name for name in MEASURED if found.count(name) != 1] == []
        assert [title for title in GROUPS.values() if found.count(title) != 1] == []
        assert "rc-rm" not in found, "nothing was measured of it"
    assert any(text.startswith("ECE (left is better") for text in texts(files["comparison-calibration"]))


def test_a_file_needs_no_page_around_it(files: dict[str, str]):
    ids = [one for svg in files.values() for one in re.findall(r' id="([^"]+)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in files.values():
        root = ElementTree.fromstring(svg)
        assert float(str(root.get("viewBox")).split()[2]) < 640, "letters are readable at the width of a page's text"
        assert re.search(r'<rect width="100%" height="100%" fill="#\w{6}"', svg)
        assert "font-family" in root.attrib
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
        assert [one for one in re.findall(r"https?://[^\s\"'<>]+", svg) if "www.w3.org" not in one] == []


def test_equal_comparisons_give_equal_bytes(comparison: Comparison, files: dict[str, str], tmp_path: Path):
    write_figures(Comparison.model_validate_json(comparison.model_dump_json()), tmp_path)
    assert {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == files


def test_on_the_page_the_page_explains_the_marks(comparison: Comparison):
    shown = [row for row in rows(comparison) if row.method.figures]
    for svg in (scatter_plot(shown, ECE, "s"), cost_plot(shown, "c")):
        assert not set(GROUPS.values()) & set(texts(svg))


def test_only_the_kinds_that_are_there_are_explained(comparison: Comparison):
    own = [row for row in rows(comparison) if row.method.kind == "self-feedback" and row.method.figures]
    assert set(GROUPS.values()) & set(texts(scatter_plot(own, ECE, "s", legend=True))) == {GROUPS["self-feedback"]}


def test_methods_in_one_place_share_a_block_of_names(comparison: Comparison):
    start = next(row.method for row in rows(comparison) if row.method.kind == "start")
    alike = [start, *(start.model_copy(update={"recipe": name, "kind": "bound"}) for name in ("second", "third"))]
    shown = rows(comparison.model_copy(update={"methods": tuple(alike), "pairs": {}}))
    root = ElementTree.fromstring(scatter_plot(shown, ECE, "s"))
    found = {str(one.text): one for one in root.iter("{http://www.w3.org/2000/svg}text")}
    heights = [float(found[name].attrib["y"]) for name in ("before", "second", "third")]
    assert len({found[name].attrib["x"] for name in ("before", "second", "third")}) == 1
    first, second = heights[1] - heights[0], heights[2] - heights[1]
    assert 8 < first < 12
    assert second == pytest.approx(first, abs=0.02)
    assert MARKS["bound"][1] in found["second"].attrib["style"]
    assert MARKS["start"][1] in found["before"].attrib["style"]


def test_an_interval_far_beyond_all_errors_leaves_the_picture(comparison: Comparison):
    shown = [row for row in rows(comparison) if row.method.figures]
    worst = max(row.estimate(ECE).value or 0.0 for row in shown)
    method = shown[1].method
    figures = method.figures | {"ece": method.figures["ece"].model_copy(update={"interval": (0.0, 1.0)})}
    wide = [
        shown[0],
        *rows(comparison.model_copy(update={"methods": (method.model_copy(update={"figures": figures}),)})),
    ]
    ticks = [
        float(text) for text in texts(scatter_plot([*wide, *shown[2:]], ECE, "s")) if re.fullmatch(r"0\.\d+", text)
    ]
    assert max(ticks) < 2 * worst


def test_a_rim_is_only_where_it_is_asked_for(comparison: Comparison):
    svg = scatter_plot(rows(comparison), ECE, "s")
    assert "paint-order" in standalone_svg(svg, halo=True)
    assert "paint-order" not in standalone_svg(svg)
