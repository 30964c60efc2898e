"""Answers that state a confidence in words.

The form of RLCR (arXiv 2507.16806) is tags in a fixed order: ``<think>`` reasoning ``</think>``, ``<answer>`` answer
``</answer>``, optionally ``<analysis>`` of the uncertainty ``</analysis>``, ``<confidence>`` a number from 0 to 1
``</confidence>``, and nothing after it. As published, the opening tag of the reasoning may be missing: prompts often
end with it. A shorter form of our own, for small models, is a last line ``Confidence: 0.9`` under whatever is said.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(
    r"(?P<reasoning>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*"
    r"(?:<analysis>(?P<analysis>.*?)</analysis>\s*)?<confidence>(?P<confidence>[^<]*)</confidence>\s*\Z",
    re.DOTALL,
)
#: The tags that stand exactly once; the opening one of the reasoning is free.
TAGS = ("</think>", "<answer>", "</answer>", "<analysis>", "</analysis>", "<confidence>", "</confidence>")
_CONFIDENCE = re.compile(r"<confidence>(?P<tag>[^<]*)</confidence>|^[ \t]*Confidence:(?P<line>[^\n]*)$", re.MULTILINE)
_LAST_LINE = re.compile(r"\n[ \t]*Confidence:([^\n]*)\s*\Z")
_NUMBER = re.compile(r"\s*(?:0|1|0?\.\d+|[01]\.\d*)\s*")


class Verbalised(NamedTuple):
    """A stated answer and confidence, or why there is none."""

    answer: str | None
    confidence: float | None
    failure: str | None


def parse_verbalised(text: str, *, analysis: bool = True) -> Verbalised:
    """Answer and confidence q in [0, 1] of a completion in the form above; ``analysis`` asks for that part.

    Every tag must stand exactly once. A confidence outside [0, 1], in per cent or in words is a failure.
    """
    wanted = [tag for tag in TAGS if analysis or "analysis" not in tag]
    for tag in wanted:
        if (count := text.count(tag)) != 1:
            return Verbalised(None, None, f"{tag} stands {count} times")
    match = _FORM.fullmatch(text)
    if match is None or (analysis and match["analysis"] is None):
        return Verbalised(None, None, "the tags are not in order, or text stands between or after them")
    if not match["answer"].strip():
        return Verbalised(None, None, "the answer is empty")
    confidence = _number(match["confidence"])
    if confidence is None:
        return Verbalised(None, None, f"the confidence {match['confidence'].strip()!r} is no number from 0 to 1")
    return Verbalised(match["answer"].strip(), confidence, None)


def confidence_of_last_line(text: str) -> float | None:
    """The confidence of a text whose last line is ``Confidence: `` and a number from 0 to 1; None for any other."""
    match = _LAST_LINE.search(text)
    return None if match is None else _number(match[1])


def stated_confidence(text: str) -> float | None:
    """The confidence that a text states last, in either form, whatever stands around it; None where it is no number.

    An earlier number does not stand in for a last one that cannot be read: it was said of something else.
    """
    stated = [match["line"] if match["tag"] is None else match["tag"] for match in _CONFIDENCE.finditer(text)]
    return _number(stated[-1]) if stated else None


def confidence_spans(text: str) -> list[tuple[int, int]]:
    """Where confidences are stated: half-open ranges of characters, in which a number is no answer."""
    return [match.span() for match in _CONFIDENCE.finditer(text)]


def without_stated_confidence(text: str) -> str:
    """The text without the confidences that it states, whose numbers are no answers."""
    return _CONFIDENCE.sub("", text)


def _number(stated: str) -> float | None:
    """A number from 0 to 1 in plain decimal notation; None for anything else, per cent and words included."""
    if not _NUMBER.fullmatch(stated):
        return None
    confidence = float(stated)
    return confidence if confidence <= 1.0 else None
