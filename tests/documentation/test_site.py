"""The site is built strictly, as by ``make docs``; every link leads somewhere, nothing is loaded from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: What a browser fetches by itself, by the attribute that says from where.
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("object", "data")}
LOADED_LINKS = {"stylesheet", "icon", "preconnect", "dns-prefetch", "preload", "prefetch", "modulepreload", "manifest"}

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """``mkdocs build --strict``; ``--quiet`` would make it blind to warnings, and so not strict."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "mkdocs", "build", "--strict"),
            *("--config-file", str(config), "--site-dir", str(site)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )


@dataclass
class Page(HTMLParser):
    """What a page links to, what it loads, and where one can jump in it."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.anchors |= {known[name] for name in ("id", "name") if name in known}
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        self.loaded += [known[name] for of_tag, name in LOADED if of_tag == tag and name in known]
        if tag == "link" and LOADED_LINKS & set(known.get("rel", "").split()):
            self.loaded.append(known["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    read = {}
    for path in site.rglob("*.html"):
        read[path] = Page()
        read[path].feed(path.read_text(encoding="utf-8"))
    return read


def test_every_page_of_the_folder_is_in_the_site(site: Path) -> None:
    names = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert len(names) > 50
    assert names <= {path.relative_to(site) for path in site.rglob("*.html")}
    assert not list(site.rglob("*.py"))


def within(pages: dict[Path, Page], kind: str) -> Iterator[tuple[Path, str]]:
    """Links or loaded files of all pages but the one for addresses that do not exist, whose own are absolute."""
    for path, page in pages.items():
        if path.name != "404.html":
            yield from ((path, target) for target in getattr(page, kind))


def test_every_link_leads_somewhere(pages: dict[Path, Page]) -> None:
    broken = []
    for path, link in within(pages, "links"):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        found = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        jumps = parts.fragment and found in pages and unquote(parts.fragment) not in pages[found].anchors
        if not found.is_file() or jumps:
            broken.append(f"{path.name}: {link}")
    assert broken == []


def test_external_links_are_well_formed(pages: dict[Path, Page]) -> None:
    external = {link for _, link in within(pages, "links") if urlsplit(link).scheme}
    assert len(external) > 20
    odd = [link for link in external if not re.fullmatch(r"https://[a-z0-9-]+(\.[a-z0-9-]+)+(/[!-~]*)?", link)]
    assert odd == []


def test_arxiv_ids_have_their_form(pages: dict[Path, Page]) -> None:
    links = {link for _, link in within(pages, "links") if "arxiv.org" in link}
    assert [link for link in links if not re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", link)] == []


def test_classes_show_what_they_are_made_of(site: Path) -> None:
    """Fields of a dataclass have no text of their own: the signature is where a reader meets them."""
    text = re.sub(r"<[^>]+>", "", (site / "api" / "answers.html").read_text(encoding="utf-8"))
    assert "Answer(text: str, start: int, end: int)" in text


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    loaded = list(within(pages, "loaded"))
    assert len(loaded) > 100
    missing = [
        f"{path.name}: {target}" for path, target in loaded if not (path.parent / urlsplit(target).path).is_file()
    ]
    assert [line for line in missing if "data:" not in line] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)\s]*", styles) == []
    # The theme fetches this drawing library where a page has a diagram of it; none may have.
    assert not any('class="mermaid"' in path.read_text(encoding="utf-8") for path in pages)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
def test_search_works_in_pages_opened_as_files(site: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    run = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"),
            *("--enable-logging=stderr", "--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}"),
            f"{(site / 'index.html').as_uri()}?q=likelihood+displacement",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert [line for line in run.stderr.splitlines() if "CONSOLE" in line] == []
    found = re.search(r"(\d+) matching documents", run.stdout)
    assert found is not None
    assert int(found[1]) > 1


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("[gone](gone.md)", "gone.md"),
        ("[gone](index.md#gone)", "#gone"),
        ("[gone](../src/gone.py)", "../src/gone.py"),
        ("[gone](/index.md)", "/index.md"),
        ("[gone](gone/)", "gone/"),
    ],
)
def test_a_broken_link_is_refused(link: str, complaint: str, tmp_path: Path) -> None:
    """The settings that make it strict are those of the site; two pages are enough to see them work."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    validation = re.search(r"^validation:\n(?:  .*\n)+", settings, re.MULTILINE)
    assert validation is not None
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Start\n\n{link}\n", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(f"site_name: two pages\n{validation[0]}", encoding="utf-8")
    built = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert built.returncode == 1
    assert complaint in built.stdout + built.stderr
