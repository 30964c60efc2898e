"""A hook of MkDocs: files of the repository that pages link to become pages of the site, so that no link leaves it.

On GitHub a link such as ``../CONTRIBUTING.md`` opens the file. Here it opens ``repository/CONTRIBUTING.md``: Markdown
as it is, anything else as a listing. Links between pages are left to MkDocs, and so are those to files that do not
exist, which its strict build refuses.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
FOLDER = "repository"
#: The target of an inline link or picture; a title after it is not ours.
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=[)\s])")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "bash", ".json": "json"}
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:")


def target(home: str, path: str) -> str | None:
    """Where a link of the file ``home`` leads, from the repository's root; None for one that is not relative."""
    if EXTERNAL.match(path) or path.startswith("/"):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), path))


def links(home: str, text: str) -> Iterator[tuple[re.Match[str], str]]:
    """The relative links of a file, with the file of the repository that each one means."""
    for match in LINK.finditer(text):
        found = target(home, match["path"])
        if found is not None:
            yield match, found


def outside(path: str) -> bool:
    """Whether a path of the repository is a file that is no page of the documentation."""
    return not path.startswith(("docs/", "../")) and (ROOT / path).is_file()


def linked(pages: list[str]) -> dict[str, str]:
    """Every file that the pages link to, directly or through one another, with its text."""
    found: dict[str, str] = {}
    waiting, seen = list(pages), set(pages)
    while waiting:
        home = waiting.pop()
        text = (ROOT / home).read_text(encoding="utf-8")
        if outside(home):
            found[home] = text
        if home.endswith(".md"):
            new = {path for _, path in links(home, text) if outside(path)} - seen
            waiting += sorted(new)
            seen |= new
    return found


def site_path(path: str) -> str:
    """Where a file of the repository stands among the pages."""
    if not outside(path):
        return path.removeprefix("docs/")
    return f"{FOLDER}/{path}" if path.endswith(".md") else f"{FOLDER}/{path}.md"


def listing(path: str, text: str) -> str:
    """A file that is not Markdown, as a page."""
    return f"# {path}\n\n````{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}````\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the linked files of the repository to the pages."""
    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    for path, text in linked(pages).items():
        content = text if path.endswith(".md") else listing(path, text)
        files.append(File.generated(config, site_path(path), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links that leave the folder of pages lead to what ``on_files`` added, and links of added files back."""
    inside = page.file.src_uri
    home = inside.removeprefix(f"{FOLDER}/") if inside.startswith(f"{FOLDER}/") else f"docs/{inside}"
    for match, path in reversed(list(links(home, markdown))):
        if outside(path) or not home.startswith("docs/"):
            relative = posixpath.relpath(site_path(path), posixpath.dirname(inside) or ".")
            markdown = markdown[: match.start("path")] + relative + markdown[match.end("path") :]
    return markdown
