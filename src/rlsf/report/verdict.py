"""What the numbers say in plain words. Every sentence is computed; none is written in advance."""

from __future__ import annotations

from dataclasses import dataclass

from rlsf.report.comparison import ACCURACY, AUROC, BRIER, ECE, TOKENS, Cell, Judgement, Metric, ModeComparison
from rlsf.report.format import THIN, number

#: No-break space: an arrow stays with its numbers.
_SOLID = "\u00a0"

_WORDS: dict[Judgement, str] = {
    "better": "improved",
    "worse": "got worse",
    "unclear": "shows no distinguishable change",
    "neutral": "changed",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """``subject`` ``word``: ``before`` -> ``after``, with the evidence in ``detail``."""

    subject: str
    judgement: Judgement
    word: str
    before: str
    after: str | None
    detail: str


def verdict(comparisons: list[ModeComparison]) -> list[Finding]:
    """Findings on accuracy and calibration of the first mode (greedy), then what else moved.

    A change counts as real when the paired 95 % interval of the difference excludes zero; without a trained
    policy to compare, the findings describe the one that was measured.
    """
    if not comparisons:
        return []
    first = comparisons[0]
    if not first.has_after:
        return [_level(first, ACCURACY, "Accuracy"), _level(first, ECE, "Calibration")]
    return [_change(first, ACCURACY, "Accuracy"), _change(first, ECE, "Calibration")]


def remarks(comparisons: list[ModeComparison]) -> list[str]:
    """Sentences that qualify the verdict: other modes, other metrics, length, and the latent accuracy."""
    if not comparisons or not comparisons[0].has_after:
        return []
    first, *others = comparisons
    sentences = [_latent(first, others), _other_metrics(first), _length(first)]
    sentences += [_other_mode(mode) for mode in others if mode.has_after]
    return [sentence for sentence in sentences if sentence]


def _level(mode: ModeComparison, metric: Metric, subject: str) -> Finding:
    estimate = mode.cell(metric).before
    bounds = metric.bounds(estimate.interval)
    detail = f"{_named(mode, metric)}{f', 95{THIN}% interval {bounds}' if bounds else ''}"
    return Finding(subject, "neutral", "measured", metric.value(estimate.value), None, detail)


def _change(mode: ModeComparison, metric: Metric, subject: str) -> Finding:
    cell = mode.cell(metric)
    known = cell.difference is not None and cell.difference.interval is not None
    return Finding(
        subject=subject,
        judgement=cell.judgement,
        word=_WORDS[cell.judgement] if known else "cannot be compared",
        before=metric.value(cell.before.value),
        after=metric.value(cell.after.value if cell.after else None),
        detail=f"{_named(mode, metric)}{_difference(cell)}",
    )


def _named(mode: ModeComparison, metric: Metric) -> str:
    return f"{mode.name} {'accuracy' if metric is ACCURACY else metric.name}"


def _from_to(cell: Cell) -> str:
    after = cell.metric.value(cell.after.value if cell.after else None)
    return f"{cell.metric.value(cell.before.value)}{_SOLID}→{_SOLID}{after}"


def _difference(cell: Cell) -> str:
    if cell.difference is None:
        return ""
    points = " points" if cell.metric is ACCURACY else ""
    bounds = cell.metric.bounds(cell.difference.interval, signed=True)
    paired = f"; paired 95{THIN}% interval {bounds}" if bounds else ""
    return f": {cell.metric.change(cell.difference.value)}{points}{paired}"


def _latent(first: ModeComparison, others: list[ModeComparison]) -> str | None:
    """How far greedy decoding after training is from what CoT-decoding found in the original model."""
    latent = next((mode for mode in others if mode.mode == "cot_decoding"), None)
    after, target = first.cell(ACCURACY).after, latent.cell(ACCURACY).before if latent else None
    if first.mode != "greedy" or after is None or target is None or after.value is None or target.value is None:
        return None
    gap = ACCURACY.change(after.value - target.value)
    return (
        f"CoT-decoding reached {ACCURACY.value(target.value)} on the model before training;"
        f" greedy decoding now reaches {ACCURACY.value(after.value)} ({gap} points)."
    )


def _other_metrics(mode: ModeComparison) -> str | None:
    cells = [cell for cell in (mode.cell(BRIER), mode.cell(AUROC)) if cell.judgement in ("better", "worse")]
    if not cells:
        return None
    names = {BRIER: "the Brier score", AUROC: "AUROC"}
    parts = [f"{names[cell.metric]} {_WORDS[cell.judgement]} ({_from_to(cell)})" for cell in cells]
    return f"{mode.name} decoding's confidence by other measures: {' and '.join(parts)}."


def _length(mode: ModeComparison) -> str | None:
    cell = mode.cell(TOKENS)
    if cell.after is None or cell.after.value is None or not cell.before.value:
        return None
    ratio = cell.after.value / cell.before.value
    if 0.95 <= ratio <= 1.05:
        return None
    word = "longer" if ratio > 1 else "shorter"
    return (
        f"{mode.name} answers became {word}: {TOKENS.value(cell.before.value)} tokens on average before,"
        f" {TOKENS.value(cell.after.value)} after ({number(ratio, 2)} times)."
    )


def _other_mode(mode: ModeComparison) -> str:
    accuracy, ece = mode.cell(ACCURACY), mode.cell(ECE)
    return (
        f"{mode.name}: accuracy {_WORDS[accuracy.judgement]} ({_from_to(accuracy)}),"
        f" ECE {_WORDS[ece.judgement]} ({_from_to(ece)})."
    )
