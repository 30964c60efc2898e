"""The page of a comparison in a real browser: no console message, labels apart as drawn, both themes, all widths."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import browse, console, measured, needs_chromium, screenshot
from comparison_example import example_comparison

from rlsf.report.comparison_page import write_comparison_page

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    write_comparison_page(example_comparison(), path)
    return path


def test_nothing_complains(page: Path) -> None:
    run = browse(page, "--dump-dom")
    assert console(run) == []
    assert run.stdout.count("<svg") == 2 + 7 + 1


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_is_as_wide_as_the_window(page: Path, width: int) -> None:
    assert measured(page, width, "page.documentElement.scrollWidth") == f"found {width}"


def test_names_in_the_scatter_do_not_overlap_as_drawn(page: Path) -> None:
    script = """(() => {
      const names = [...page.querySelectorAll('#tradeoff svg')].map(svg =>
        [...svg.querySelectorAll('text')].filter(text => /[a-z]{3}/.test(text.textContent) && !/better|Acc/.test(
          text.textContent)).map(text => text.getBoundingClientRect()));
      const over = (a, b) => a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
      return names.map(all => all.length + ':' + all.filter((a, i) => all.some((b, j) => j < i && over(a, b))).length)
        .join(' ');
    })()"""
    assert measured(page, 1280, script) == "found 7:0 7:0"


def test_the_keyboard_reaches_what_scrolls_and_folds(page: Path) -> None:
    script = """(() => {
      const reachable = [...page.querySelectorAll('.scroll, .pairs-list, summary')];
      return reachable.length > 10 && reachable.every(one => one.tabIndex === 0);
    })()"""
    assert measured(page, 1280, script) == "found true"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (500, "dark")])
def test_screenshots_of_the_comparison(page: Path, width: int, scheme: str) -> None:
    screenshot(page, width, scheme)
