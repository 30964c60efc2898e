"""Calibration: does a confidence of 0.8 mean right in 80 % of the cases?

Bins of equal width are right-closed, (k/B, (k+1)/B], with confidence 0 in the first: no question is ever dropped.
Bins of equal mass hold exactly n/B questions each; equal confidences on an edge are shared between both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from rlsf.errors import InputError
from rlsf.evaluation.groups import ConfidenceGroups, FloatArray, IntArray, checked, group_confidences

#: Confidences are clipped to [LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP] in the log loss: about float32's resolution at 1.
LOG_LOSS_CLIP = 1e-7


def _positive(bins: int) -> int:
    if bins < 1:
        raise InputError(f"{bins} bins: give at least 1")
    return bins


def bin_edges(bins: int) -> FloatArray:
    """0, 1/B, ..., 1: each the float nearest to its decimal, so that 0.3 lies on an edge of ten bins."""
    return np.arange(_positive(bins) + 1) / bins


def bin_indices(confidence: ArrayLike, bins: int) -> IntArray:
    """The right-closed bin 0 ... B - 1 of each confidence; 0 belongs to the first."""
    return np.maximum(np.searchsorted(bin_edges(bins), np.asarray(confidence), side="left") - 1, 0)


def grouped_ece(groups: ConfidenceGroups, bins: int) -> FloatArray:
    """``ece`` of grouped questions, one value a resample."""
    membership = np.zeros((len(groups.values), _positive(bins)))
    membership[np.arange(len(groups.values)), bin_indices(groups.values, bins)] = 1.0
    return np.abs(groups.gap @ membership).sum(axis=-1) / groups.total


def grouped_ece_equal_mass(groups: ConfidenceGroups, bins: int) -> FloatArray:
    """``ece_equal_mass`` of grouped questions, one value a resample."""
    edges = np.arange(1, _positive(bins) + 1) * groups.total / bins
    upto = groups.accumulated(groups.gap, edges.tolist())
    return np.abs(np.diff(upto, axis=-1, prepend=0.0)).sum(axis=-1) / groups.total


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error over bins of equal width, in [0, 1].

    sum_b (n_b / n) |accuracy_b - mean confidence_b| (Guo et al. 2017, arXiv 1706.04599, eq. 3).
    """
    return float(grouped_ece(group_confidences(confidence, correct), bins))


def ece_equal_mass(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error over bins of n/B questions each (Nixon et al. 2019, arXiv 1904.01685), in [0, 1]."""
    return float(grouped_ece_equal_mass(group_confidences(confidence, correct), bins))


def ece_if_calibrated(confidence: ArrayLike, bins: int = 10, draws: int = 500, seed: int = 0) -> float:
    """The mean ECE of these confidences were they perfectly calibrated: the noise floor of ``ece``.

    ECE is positive even then, since no bin of finitely many questions hits its confidence exactly. The mean over
    ``draws`` of correctness drawn with the confidences as probabilities (consistency resampling, Broecker and Smith
    2007, doi 10.1175/WAF993.1).
    """
    values, _ = checked(confidence, np.zeros(np.shape(confidence)))
    membership = np.zeros((len(values), _positive(bins)))
    membership[np.arange(len(values)), bin_indices(values, bins)] = 1.0
    correct = np.random.default_rng(seed).random((draws, len(values))) < values
    return float(np.abs((values - correct) @ membership).sum(axis=1).mean() / len(values))


def squared_errors(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """(confidence - correct)^2 of each question, [n]; the mean is the Brier score."""
    values, outcomes = checked(confidence, correct)
    return (values - outcomes) ** 2


def negative_log_likelihoods(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """-log of the probability given to what happened, [n], nats, after clipping; the mean is the log loss."""
    values, outcomes = checked(confidence, correct)
    clipped = np.clip(values, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return -np.where(outcomes == 1, np.log(clipped), np.log1p(-clipped))


def brier(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Brier score: the mean of (confidence - correct)^2, in [0, 1]."""
    return float(squared_errors(confidence, correct).mean())


def log_loss(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Mean negative log-likelihood of correctness, nats; confidences are clipped by ``LOG_LOSS_CLIP``."""
    return float(negative_log_likelihoods(confidence, correct).mean())


def wilson_interval(successes: float, trials: float, level: float = 0.95) -> tuple[float, float] | None:
    """Wilson's interval of a proportion; None for no trials."""
    if trials == 0:
        return None
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, penalty = successes / trials, z * z / trials
    centre = (share + penalty / 2) / (1 + penalty)
    half = z * float(np.sqrt(share * (1 - share) / trials + penalty / trials / 4)) / (1 + penalty)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin (lower, upper] of a reliability diagram; the averages of an empty bin are None."""

    lower: float
    upper: float
    count: int
    mean_confidence: float | None
    accuracy: float | None
    interval: tuple[float, float] | None


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> list[ReliabilityBin]:
    """Accuracy against confidence in bins of equal width, with Wilson's 95 % interval of each accuracy."""
    values, outcomes = checked(confidence, correct)
    edges, member = bin_edges(bins), bin_indices(values, bins)
    curve = []
    for index in range(bins):
        inside = member == index
        count, right = int(inside.sum()), int(outcomes[inside].sum())
        curve.append(
            ReliabilityBin(
                lower=float(edges[index]),
                upper=float(edges[index + 1]),
                count=count,
                mean_confidence=float(values[inside].mean()) if count else None,
                accuracy=right / count if count else None,
                interval=wilson_interval(right, count),
            )
        )
    return curve


@dataclass(frozen=True, slots=True)
class HistogramBin:
    """How many right and wrong answers were given with a confidence in (lower, upper]."""

    lower: float
    upper: float
    correct: int
    wrong: int


def histogram(confidence: ArrayLike, correct: ArrayLike, bins: int = 20) -> list[HistogramBin]:
    """Right and wrong answers per bin of equal width."""
    values, outcomes = checked(confidence, correct)
    edges, member = bin_edges(bins), bin_indices(values, bins)
    right = np.bincount(member, weights=outcomes, minlength=bins)
    count = np.bincount(member, minlength=bins)
    return [
        HistogramBin(float(edges[i]), float(edges[i + 1]), int(right[i]), int(count[i] - right[i])) for i in range(bins)
    ]
