"""The page in a real browser: no console message, the script switches panels, both themes, narrow and wide."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from online_example import online_inputs

from rlsf.report.html import render_report
from rlsf.report.inputs import ReportInputs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Chromium's DOM dump on standard output, its console on standard error."""
    assert CHROMIUM is not None
    return subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"),
            *("--enable-logging=stderr", f"--user-data-dir={page.parent / 'profile'}", *options, page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(page.parent)},
    )


def console(run: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in run.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture
def page(inputs: ReportInputs, tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(render_report(inputs), encoding="utf-8")
    return path


def test_the_script_runs_and_nothing_complains(page: Path) -> None:
    run = browse(page, "--dump-dom")
    assert console(run) == []
    assert 'class="headline"' in run.stdout
    assert run.stdout.count("<svg") == 17
    assert re.search(r'<section id="traces" class="by-p interactive"', run.stdout)
    panels = re.findall(r'<details class="question" id="question-\d+"[^>]*>', run.stdout)
    assert [("hidden" in panel, "open" in panel) for panel in panels] == [(False, True)] + [(True, False)] * 12


def test_a_link_to_a_question_opens_it(page: Path) -> None:
    url = page.with_name("link.html")
    url.write_text(f'<meta http-equiv="refresh" content="0; url={page.name}#question-5">')
    run = browse(url, "--dump-dom", "--virtual-time-budget=3000")
    panels = re.findall(r'<details class="question" id="(question-\d+)"[^>]*>', run.stdout)
    shown = [name for name in panels if not re.search(rf'id="{name}"[^>]*hidden', run.stdout)]
    assert shown == ["question-5"]


def test_a_forbidden_script_is_blocked_and_reported(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    page.write_text(html.replace("</main>", "<script>document.title = 'taken over'</script></main>"), encoding="utf-8")
    run = browse(page, "--dump-dom")
    assert any("Content Security Policy" in line for line in console(run))
    assert "<title>taken over" not in run.stdout


def test_an_online_run_has_its_pictures(inputs: ReportInputs, page: Path) -> None:
    page.write_text(render_report(online_inputs(inputs)), encoding="utf-8")
    run = browse(page, "--dump-dom")
    assert console(run) == []
    assert run.stdout.count("<svg") == 11 + 11
    assert "completions a prompt" in run.stdout


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (500, "dark")])
def test_screenshots(page: Path, width: int, scheme: str) -> None:
    import matplotlib.image

    picture = page.with_suffix(".png")
    preference = {"dark": 0, "light": 1}[scheme]
    run = browse(
        page,
        f"--screenshot={picture}",
        f"--window-size={width},1600",
        f"--blink-settings=preferredColorScheme={preference}",
    )
    assert console(run) == []
    pixels = matplotlib.image.imread(picture)[..., :3]
    assert pixels.shape[1] == width
    ground = pixels[0, 0].mean()
    assert ground < 0.15 if scheme == "dark" else ground > 0.9
    assert 0.02 < (abs(pixels - pixels[0, 0]).max(axis=-1) > 0.2).mean() < 0.5  # there is ink, and it is no wall of it
