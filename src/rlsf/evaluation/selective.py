"""Selective prediction: does confidence tell right answers from wrong ones, and what does abstaining buy?

Equal confidences are averaged over every order in which they could be ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlsf.errors import InputError
from rlsf.evaluation.groups import ConfidenceGroups, FloatArray, group_confidences, harmonic_numbers, thinned


def grouped_auroc(groups: ConfidenceGroups) -> FloatArray:
    """``auroc`` of grouped questions, one value a resample; NaN where only one class is present."""
    correct, wrong = groups.correct, groups.wrong
    less_sure = wrong.sum(axis=-1, keepdims=True) - np.cumsum(wrong, axis=-1)
    won = (correct * (less_sure + 0.5 * wrong)).sum(axis=-1)
    pairs = correct.sum(axis=-1) * wrong.sum(axis=-1)
    return np.divide(won, pairs, out=np.full(won.shape, np.nan), where=pairs > 0)


def grouped_aurc(groups: ConfidenceGroups) -> FloatArray:
    """``aurc`` of grouped questions, one value a resample.

    A group of s questions, e of them wrong, that follows m surer ones with E wrong adds
    sum_{j=1..s} (E + j e/s) / (m + j) = e + (E - m e/s) (H_{m+s} - H_m), with harmonic numbers H.
    """
    wrong, upto = groups.wrong, np.cumsum(groups.count, axis=-1)
    harmonic = harmonic_numbers(int(upto.max()))
    before = upto - groups.count
    rate = wrong / np.maximum(groups.count, 1)
    wrong_before = np.cumsum(wrong, axis=-1) - wrong
    added = wrong + (wrong_before - before * rate) * (harmonic[upto] - harmonic[before])
    return added.sum(axis=-1) / np.maximum(upto[..., -1], 1)


def grouped_best_aurc(groups: ConfidenceGroups) -> FloatArray:
    """The AURC of the best ranking, every wrong answer last, one value a resample."""
    wrong, harmonic = groups.wrong.sum(axis=-1), harmonic_numbers(groups.total)
    right = groups.total - wrong
    return (wrong - right * (harmonic[groups.total] - harmonic[right])) / groups.total


def grouped_accuracy_at_coverage(groups: ConfidenceGroups, coverages: Sequence[float]) -> FloatArray:
    """``accuracy_at_coverage`` of grouped questions, [..., coverages]."""
    outside = [coverage for coverage in coverages if not 0 < coverage <= 1]
    if outside:
        raise InputError(f"coverage {outside[0]} is not in (0, 1]: give the share of questions to answer")
    # Rounded first: 0.7 * 10 is 7.000000000000001 in floating point and must not become 8.
    answered = np.ceil(np.round(np.asarray(coverages) * groups.total, 9))
    return groups.accumulated(groups.correct, answered.tolist()) / answered


def auroc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Probability that a right answer is given with more confidence than a wrong one, ties counting half.

    In [0, 1], 0.5 by chance; NaN where every answer is right or every one wrong.
    """
    return float(grouped_auroc(group_confidences(confidence, correct)))


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Area under the risk-coverage curve: (1/n) sum_k (share wrong among the k surest), in [0, 1], lower is better.

    Geifman and El-Yaniv 2017, arXiv 1705.08500.
    """
    return float(grouped_aurc(group_confidences(confidence, correct)))


def excess_aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """AURC less that of the best ranking of the same answers, >= 0 (Geifman et al. 2019, arXiv 1805.08206)."""
    groups = group_confidences(confidence, correct)
    return float(grouped_aurc(groups) - grouped_best_aurc(groups))


def accuracy_at_coverage(confidence: ArrayLike, correct: ArrayLike, coverage: float) -> float:
    """Accuracy on the ceil(coverage x n) surest questions. Raises ``InputError`` for a coverage outside (0, 1]."""
    return float(grouped_accuracy_at_coverage(group_confidences(confidence, correct), [coverage])[0])


@dataclass(frozen=True, slots=True)
class RiskCoveragePoint:
    """Answering the surest share ``coverage`` of the questions, down to ``confidence``, errs in ``risk`` of them."""

    coverage: float
    risk: float
    confidence: float


def risk_coverage(confidence: ArrayLike, correct: ArrayLike, points: int = 200) -> list[RiskCoveragePoint]:
    """The risk-coverage curve at k = 1 ... n answered questions, thinned evenly to at most ``points``."""
    if points < 2:
        raise InputError(f"a curve of {points} points: give at least 2")
    groups = group_confidences(confidence, correct)
    answered = thinned(groups.total, points) + 1
    upto = np.cumsum(groups.count)
    wrong = np.interp(answered, np.concatenate([[0], upto]), np.concatenate([[0], np.cumsum(groups.wrong)]))
    surest = groups.values[np.searchsorted(upto, answered, side="left")]
    return [
        RiskCoveragePoint(float(k / groups.total), float(errors / k), float(threshold))
        for k, errors, threshold in zip(answered, wrong, surest, strict=True)
    ]
