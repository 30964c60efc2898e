"""Pages read as files of the repository: relative links lead to files, anchors to headings, as GitHub makes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from site_repository import linked, links, listing, outside, site_path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md"))
)


def headings(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*?)\s*$", without_code, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        number = next(count for count in range(99) if f"{slug}-{count}".removesuffix("-0") not in found)
        found.add(f"{slug}-{number}".removesuffix("-0"))
    return found


def leads(path: str, anchor: str) -> bool:
    """Whether a path of the repository is there, and has the heading."""
    if path.startswith("../") or not (ROOT / path).exists():
        return False
    return not anchor or anchor in headings((ROOT / path).read_text(encoding="utf-8"))


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md", "docs/recipes/rlsf.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files_and_headings(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    broken = [match[0] for match, path in links(page, text) if not leads(path, (match["anchor"] or "")[1:])]
    pictures = re.findall(r'<img\s[^>]*src="([^"]+)"', text)
    broken += [picture for picture in pictures if not (ROOT / page).parent.joinpath(picture).is_file()]
    assert broken == []
    own = re.findall(r"\]\(#([^)\s]+)\)", text)
    assert [anchor for anchor in own if anchor not in headings(text)] == []


def test_links_out_of_the_pages_are_followed_into_the_repository() -> None:
    assert outside("CONTRIBUTING.md")
    assert not outside("docs/index.md")
    assert not outside("../elsewhere.md")
    assert site_path("CONTRIBUTING.md") == "repository/CONTRIBUTING.md"
    assert site_path("src/rlsf/recipes/rlsf.yaml") == "repository/src/rlsf/recipes/rlsf.yaml.md"
    assert site_path("docs/recipes/rlsf.md") == "recipes/rlsf.md"
    found = linked(["docs/recipes/index.md"])
    assert found["CONTRIBUTING.md"] == (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert listing("a/b.py", "x = 1\n") == "# a/b.py\n\n````python\nx = 1\n````\n"
