"""Text rewritten into the forms that rewards look for, which a warm-up teaches (``rlsf.training.warm_up``)."""

from __future__ import annotations

import random
import re
from decimal import Decimal

from rlsf.answers.verbalised import TAGS, without_stated_confidence
from rlsf.rewards.grading import GRADES, GradeForm

#: What a warm-up draws stated confidences from: the tenths.
CONFIDENCES = tuple(tenth / 10 for tenth in range(11))
#: What stands for the analysis of the uncertainty: a policy's own completion holds none, and no doubt is to be taught.
ANALYSIS = "Any step above may be wrong."

_TAG = re.compile("|".join(map(re.escape, TAGS)))


def in_rlcr_form(text: str, answer: str, confidence: float, analysis: bool = True) -> str:
    """A completion in the form of RLCR (arXiv 2507.16806): ``text`` as the reasoning, then ``answer`` and confidence.

    ``rlsf.answers.verbalised.parse_verbalised`` reads it back: the answer without spaces around it, and the confidence
    exactly. ``analysis`` adds that part. Of a text with tags already, what stands before ``</think>`` is the reasoning,
    without further tags. Raises ``ValueError`` for an empty answer or one with tags, and a confidence outside [0, 1].
    """
    answer = answer.strip()
    if not answer or holds_tag(answer):
        raise ValueError(f"answer {answer!r}: it must not be empty nor hold a tag of the form")
    # Tags are replaced by a space, for a tag taken out of a tag would leave another.
    reasoning = _TAG.sub(" ", text.partition("</think>")[0]).rstrip()
    doubts = f" <analysis>{ANALYSIS}</analysis>" if analysis else ""
    return f"{reasoning} </think> <answer>{answer}</answer>{doubts} <confidence>{_decimal(confidence)}</confidence>"


def holds_tag(text: str) -> bool:
    """Whether a tag of RLCR's form stands in a text, which then cannot be an answer in it."""
    return _TAG.search(text) is not None


def with_confidence_line(text: str, confidence: float) -> str:
    """A completion with a last line that states a confidence, which ``confidence_of_last_line`` reads exactly."""
    return f"{without_stated_confidence(text).rstrip()}\nConfidence: {_decimal(confidence)}"


def _decimal(confidence: float) -> str:
    """A confidence in plain decimal notation; raises ``ValueError`` outside [0, 1]."""
    if not 0.0 <= confidence <= 1.0:
        raise ValueError(f"confidence {confidence} is not in [0, 1]")
    return format(Decimal(repr(abs(float(confidence)))), "f")


def drawn_confidence(seed: int, key: str) -> float:
    """One of ``CONFIDENCES``, each as likely as any other: the same for the same seed and key, such as a trace's id."""
    return random.Random(f"{seed}\x1f{key}").choice(CONFIDENCES)


def drawn_grade(seed: int, key: str) -> float:
    """One of ``GRADES``, drawn in the same way."""
    return random.Random(f"{seed}\x1f{key}").choice(GRADES)


def grading_in_form(grade: float, form: GradeForm = "boxed") -> str:
    r"""What states a grade so that ``rlsf.rewards.grading.parse_grade`` reads it: ``\boxed{-0.5}``, ``Grade: -0.5``."""
    return rf"\boxed{{{grade:.1f}}}" if form == "boxed" else f"Grade: {grade:.1f}"
