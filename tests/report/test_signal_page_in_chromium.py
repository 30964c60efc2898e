"""The page of a study of signals in a real browser: no console message, no request, nothing clipped, both themes."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import browse, console, measured, needs_chromium, screenshot
from signal_example import example_facts, example_study
from test_report_html import HOSTILE

from rlsf.evaluation.signal_schema import SignalStudy
from rlsf.report.signal_page import render_signal_page

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def study() -> SignalStudy:
    return example_study()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, study: SignalStudy) -> Path:
    path = tmp_path_factory.mktemp("signals") / "signals.html"
    path.write_text(render_signal_page(study, example_facts()), encoding="utf-8")
    return path


def test_nothing_complains(page: Path) -> None:
    run = browse(page, "--dump-dom")
    assert console(run) == []
    # AUROC; within a question and six kinds and pairs of kinds; two of the choice; four kinds of two signals.
    assert run.stdout.count("<svg") == 1 + 7 + 2 + 8


def test_nothing_is_requested_though_nothing_forbids_it(page: Path) -> None:
    loaded = "page.defaultView.performance.getEntriesByType('resource').length"
    assert measured(page, 1280, loaded) == "found 0"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_as_wide_as_the_window_with_everything_open(page: Path, width: int) -> None:
    script = """(() => {
      page.querySelectorAll('details').forEach(one => { one.open = true; });
      return page.documentElement.scrollWidth;
    })()"""
    assert measured(page, width, script) == f"found {width}"


def test_tables_of_measures_need_no_scrolling_on_a_wide_screen(page: Path) -> None:
    script = """[...page.querySelectorAll('#result .scroll, #choosing .scroll')].map(
      one => one.scrollWidth - one.clientWidth).join(' ')"""
    assert measured(page, 1280, script) == "found 0 0"


def test_names_of_signals_and_captions_stay_in_view_when_a_table_scrolls(page: Path) -> None:
    script = """(() => {
      const tables = [...page.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth);
      const stays = one => {
        const [edge, right] = [one.getBoundingClientRect().left, one.getBoundingClientRect().right];
        one.scrollLeft = 60;
        const kept = [...one.querySelectorAll('tbody th, caption span')].map(part => part.getBoundingClientRect());
        return one.scrollLeft === 60 && kept.every(part => Math.abs(part.left - edge) < 1 && part.right <= right + 1);
      };
      return tables.length + ':' + tables.filter(stays).length;
    })()"""
    wide, kept = measured(page, 390, script).removeprefix("found ").split(":")
    assert int(wide) >= 3
    assert kept == wide


@pytest.mark.parametrize("width", [390, 1280])
def test_labels_of_the_drawings_are_whole_and_apart(page: Path, width: int) -> None:
    script = """(() => {
      const over = (a, b) => a.left + 1 < b.right && b.left + 1 < a.right && a.top + 3 < b.bottom
        && b.top + 3 < a.bottom;
      const wrong = [];
      const drawings = [...page.querySelectorAll('main svg')];
      for (const svg of drawings) {
        const box = svg.getBoundingClientRect();
        const all = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
        all.forEach(([text, a], i) => {
          if (a.left < box.left - 1 || a.right > box.right + 1 || a.top < box.top - 1 || a.bottom > box.bottom + 1)
            wrong.push(text + ' is cut');
          all.forEach(([other, b], j) => { if (j < i && over(a, b)) wrong.push(text + ' is over ' + other); });
        });
      }
      return drawings.length + ' ' + wrong.join(', ');
    })()"""
    assert measured(page, width, script) == "found 18 "


def test_a_fold_opens_with_a_click_and_the_contents_lead_somewhere(page: Path, study: SignalStudy) -> None:
    script = """(() => {
      const folds = [...page.querySelectorAll('#differences details')];
      const before = folds.map(one => one.open);
      folds.forEach(one => one.querySelector('summary').click());
      const turned = folds.every((one, place) => one.open !== before[place]);
      const links = [...page.querySelectorAll('a[href^="#"]')];
      const lead = links.every(one => page.getElementById(one.getAttribute('href').slice(1)));
      return [folds.length, before.filter(Boolean).length, turned, links.length > 8 && lead].join(' ');
    })()"""
    assert measured(page, 1280, script) == f"found {len(study.rankings)} 1 true true"


def test_the_keyboard_reaches_what_scrolls_and_folds(page: Path) -> None:
    script = """(() => {
      const reachable = [...page.querySelectorAll('.scroll, summary, pre')];
      return reachable.length > 15 && reachable.every(one => one.tabIndex === 0);
    })()"""
    assert measured(page, 1280, script) == "found true"


def test_texts_of_others_are_text(tmp_path: Path, study: SignalStudy) -> None:
    """Without the page's policy, so that a script or a picture that got in would be one."""
    page = tmp_path / "hostile.html"
    page.write_text(render_signal_page(study, example_facts(HOSTILE)), encoding="utf-8")
    script = """(() => {
      const shown = page.querySelector('h1').textContent + page.querySelector('.facts').textContent
        + page.querySelector('#recipe').textContent;
      return [page.querySelectorAll('script, img').length, page.documentElement.scrollWidth,
        shown.split('<script>alert(1)</' + 'script>').length - 1].join(' ');
    })()"""
    assert measured(page, 390, script) == "found 0 390 6"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (500, "dark")])
def test_screenshots_of_the_signals(page: Path, width: int, scheme: str) -> None:
    assert screenshot(page, width, scheme).shape[1] == width
