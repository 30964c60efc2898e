r"""Answers between delimiters: ``\boxed{...}``, <answer>...</answer>, or what a regular expression captures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from rlsf.answers.canonical import canonical
from rlsf.answers.finding import Occurrence

#: What opens a box, other braces, and, in no group, escaped braces and line breaks (two backslashes).
_BRACES = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\[{}]|\\\\(?!boxed|fbox)|(?P<opening>\{)|(?P<closing>\})")


def find_boxed(text: str) -> Iterator[Occurrence]:
    r"""The content of every ``\boxed{...}`` whose braces balance; of boxes in boxes, the inner content.

    One pass, for a truncated trace may repeat ``\boxed{`` thousands of times without closing one.
    """
    starts: list[int | None] = []  # of the content of each open brace, None where the brace is not a box's
    inner_end = 0
    for brace in _BRACES.finditer(text):
        match brace.lastgroup:
            case "box":
                starts.append(brace.end())
            case "opening":
                starts.append(None)
            case "closing":
                start = starts.pop() if starts else None
                if start is not None and start >= inner_end:
                    yield from _content(text, start, brace.start())
                    inner_end = brace.end()


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
    answer = canonical(content)
    if answer:
        yield Occurrence(answer, start, start + len(content.strip()))
