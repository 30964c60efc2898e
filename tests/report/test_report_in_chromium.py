"""The page in a real browser: no console message, the script switches panels, both themes, narrow and wide."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browsing import browse, console, needs_chromium, screenshot
from online_example import online_inputs

from rlsf.report.html import render_report
from rlsf.report.inputs import ReportInputs

pytestmark = needs_chromium


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
    assert screenshot(page, width, scheme).shape[1] == width
