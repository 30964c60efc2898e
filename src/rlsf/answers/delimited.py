r"""Answers between delimiters: ``\boxed{...}``, <answer>...</answer>, or what a regular expression captures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from rlsf.answers.canonical import canonical
from rlsf.answers.finding import Occurrence

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"(?<!\\)[{}]")


def find_boxed(text: str) -> Iterator[Occurrence]:
    r"""The content of every ``\boxed{...}`` whose braces balance; of boxes in boxes, the inner content."""
    for box in _BOXED.finditer(text):
        end = _closing_brace(text, box.end())
        if end is not None and not _BOXED.search(text, box.end(), end):
            yield from _content(text, box.end(), end)


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    return None


def find_tagged(text: str, tag: str) -> Iterator[Occurrence]:
    """The content of every <tag>...</tag>, in any case; an opening tag inside begins anew."""
    for match in _tag_pattern(tag).finditer(text):
        yield from _content(text, match.start(1), match.end(1))


@lru_cache(maxsize=64)
def _tag_pattern(tag: str) -> re.Pattern[str]:
    name = re.escape(tag)
    return re.compile(rf"<{name}>((?:(?!<{name}>).)*?)</{name}>", re.IGNORECASE | re.DOTALL)


def find_pattern(text: str, pattern: str) -> Iterator[Occurrence]:
    """Group 1 of every match of a regular expression, or the whole match where it has no group."""
    compiled = re.compile(pattern)
    group = min(compiled.groups, 1)
    for match in compiled.finditer(text):
        if match[group]:
            yield from _content(text, *match.span(group))


def _content(text: str, start: int, end: int) -> Iterator[Occurrence]:
    content = text[start:end]
    start += len(content) - len(content.lstrip())
    if content.strip():
        yield Occurrence(canonical(content), start, start + len(content.strip()))
