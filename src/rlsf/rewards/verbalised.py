"""Answers that state a confidence in words, in the form of RLCR (arXiv 2507.16806): tags in a fixed order.

``<think>`` reasoning ``</think>``, ``<answer>`` answer ``</answer>``, optionally ``<analysis>`` of the uncertainty
``</analysis>``, ``<confidence>`` a number from 0 to 1 ``</confidence>``, and nothing after it. As published, the
opening tag of the reasoning may be missing: prompts often end with it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(
    r"(?P<reasoning>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*"
    r"(?:<analysis>(?P<analysis>.*?)</analysis>\s*)?<confidence>(?P<confidence>[^<]*)</confidence>\s*\Z",
    re.DOTALL,
)
_TAGS = ("</think>", "<answer>", "</answer>", "<analysis>", "</analysis>", "<confidence>", "</confidence>")
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
    wanted = [tag for tag in _TAGS if analysis or "analysis" not in tag]
    for tag in wanted:
        if (count := text.count(tag)) != 1:
            return Verbalised(None, None, f"{tag} stands {count} times")
    match = _FORM.fullmatch(text)
    if match is None or (analysis and match["analysis"] is None):
        return Verbalised(None, None, "the tags are not in order, or text stands between or after them")
    if not match["answer"].strip():
        return Verbalised(None, None, "the answer is empty")
    stated = match["confidence"]
    if not _NUMBER.fullmatch(stated) or not 0.0 <= float(stated) <= 1.0:
        return Verbalised(None, None, f"the confidence {stated.strip()!r} is no number from 0 to 1")
    return Verbalised(match["answer"].strip(), float(stated), None)
