"""The page of a comparison in a real browser: no console message, labels apart as drawn, both themes, all widths."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparison_example import example_comparison
from test_report_in_chromium import CHROMIUM, browse, console

from rlsf.report.comparison_page import write_comparison_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    write_comparison_page(example_comparison(), path)
    return path


def measured(page: Path, width: int, script: str) -> str:
    """What a script finds on the page in a frame of this width; the page itself allows none."""
    frame = page.with_name(f"frame-{width}.html")
    policy, style = page.read_text(encoding="utf-8").split("<meta http-equiv=", 1)
    page.with_name("open.html").write_text(f"{policy}<meta data-was={style}", encoding="utf-8")
    frame.write_text(
        f'<iframe src="open.html" style="width:{width}px;height:900px"></iframe><p id="found"></p><script>'
        f"document.querySelector('iframe').onload = event => {{ const page = event.target.contentDocument;"
        f" document.getElementById('found').textContent = 'found ' + ({script}); }}</script>",
        encoding="utf-8",
    )
    run = browse(frame, "--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=3000")
    return run.stdout.split('id="found">')[1].split("</p>")[0]


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
    import matplotlib.image

    picture = page.with_suffix(f".{scheme}.png")
    preference = {"dark": 0, "light": 1}[scheme]
    theme = f"--blink-settings=preferredColorScheme={preference}"
    run = browse(page, f"--screenshot={picture}", f"--window-size={width},1600", theme)
    assert console(run) == []
    pixels = matplotlib.image.imread(picture)[..., :3]
    ground = pixels[0, 0].mean()
    assert ground < 0.15 if scheme == "dark" else ground > 0.9
    assert 0.02 < (abs(pixels - pixels[0, 0]).max(axis=-1) > 0.2).mean() < 0.5
