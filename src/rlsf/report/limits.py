"""What this run's numbers cannot tell: general limits, and those that its own figures show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlsf.report.comparison import AUROC, MODE_NAMES, compare
from rlsf.report.format import THIN

_SATURATED_SHARE = 0.9
_NOTABLE_SHARE = 0.01

#: Of a policy that had no teacher but itself.
SELF_TAUGHT = (
    "Confidence is the model's own. A model that is sure of a wrong answer teaches itself that answer: nothing in the"
    " loop knows the truth, so an evaluation with reference answers is the only safeguard."
)
SUPERVISED = (
    "Right answers were learned from: what is measured here is supervised training, no evidence of what a model can"
    " learn from itself."
)
GENERAL = (
    "Intervals cover the choice of questions, not the randomness of training: another seed gives another policy."
    " Judge a recipe by several seeds.",
    "The figures hold for questions like those measured. Nothing is shown about other subjects, formats or languages.",
    "ECE depends on its bins and says nothing about single answers; read it with the Brier score and the reliability"
    " diagram.",
)


def limits(summary: Mapping[str, Any] | None, learned_questions: int = 0, *, supervised: bool = False) -> list[str]:
    """Warning signs in what was measured last, then the general limits.

    ``learned_questions``: how many of the questions measured were learned from too. ``supervised``: whether gold
    answers were learned from.
    """
    teacher = SUPERVISED if supervised else SELF_TAUGHT
    if not summary:
        return ["Nothing was measured: the run had no questions with reference answers.", teacher]
    phase = "after" if summary.get("after") else "before"
    modes: Mapping[str, Any] = summary.get(phase) or {}
    signs = [*_indistinct(summary, phase), *_unusable(modes), *_saturated(modes)]
    if learned_questions:
        signs.insert(
            0,
            f"{learned_questions} of the questions measured were also learned from,"
            f" {'with' if supervised else 'if without'} their answers: the figures after training do not speak of new"
            " questions.",
        )
    return [*signs, teacher, *GENERAL]


def _unusable(modes: Mapping[str, Any]) -> list[str]:
    """Answers that were cut off or not found, where they are too many to ignore."""
    sentences = []
    for key, what in (
        ("truncated", "Cut at the token budget, so that accuracy may be understated"),
        ("without_answer", "Without an answer that could be found, counted as wrong with confidence 0"),
        ("without_confidence", "Answered without a confidence, which counts as confidence 0"),
    ):
        counts = [(MODE_NAMES.get(mode, mode), values.get(key) or 0, values["n"]) for mode, values in modes.items()]
        notable = [f"{name} {count} of {n}" for name, count, n in counts if n and count / n >= _NOTABLE_SHARE]
        if notable:
            sentences.append(f"{what}: {', '.join(notable)}.")
    return sentences


def _saturated(modes: Mapping[str, Any]) -> list[str]:
    """Modes in which nearly every answer is in the topmost bin of the histogram."""
    sentences = []
    for mode, values in modes.items():
        bins = (values.get("curves") or {}).get("histogram") or []
        counts = [one["correct"] + one["wrong"] for one in bins]
        if sum(counts) and counts[-1] / sum(counts) >= _SATURATED_SHARE:
            share = 100 * counts[-1] / sum(counts)
            sentences.append(
                f"{MODE_NAMES.get(mode, mode)}: {share:.0f}{THIN}% of the answers have a confidence above"
                f" {bins[-1]['lower']:g}. A signal this saturated hardly separates one answer from another."
            )
    return sentences


def _indistinct(summary: Mapping[str, Any], phase: str) -> list[str]:
    """Modes whose AUROC interval holds 0.5: confidence does not tell right from wrong there."""
    sentences = []
    for mode in compare(summary):
        cell = mode.cell(AUROC)
        estimate = cell.after if phase == "after" else cell.before
        if estimate is not None and estimate.interval is not None and estimate.interval[0] <= 0.5:
            evidence = f"AUROC {AUROC.value(estimate.value)}, 95{THIN}% interval {AUROC.bounds(estimate.interval)}"
            sentences.append(
                f"{mode.name}: confidence does not reliably tell right answers from wrong ones ({evidence})."
            )
    return sentences
