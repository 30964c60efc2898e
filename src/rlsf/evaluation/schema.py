"""The content of ``evaluation/summary.json``; the docstring under each field is its published definition."""

from __future__ import annotations

from typing import Literal

from rlsf.config import Section
from rlsf.evaluation.config import Mode

Interval = tuple[float, float] | None


class ReliabilityPoint(Section):
    """One bin (lower, upper] of the reliability diagram."""

    lower: float
    """Lower edge; the first bin holds confidence 0 too."""
    upper: float
    """Upper edge, inside the bin."""
    count: int
    """Questions in the bin."""
    mean_confidence: float | None
    """Mean confidence in the bin; null if it is empty."""
    accuracy: float | None
    """Share of right answers in the bin; null if it is empty."""
    interval: Interval
    """Wilson's 95 % interval of that accuracy; null if the bin is empty."""


class RiskPoint(Section):
    """One point of the risk-coverage curve."""

    coverage: float
    """Share of the questions answered, the surest first."""
    risk: float
    """Share of wrong answers among them, equal confidences averaged."""
    confidence: float
    """Confidence of the least sure question answered."""


class HistogramCount(Section):
    """One bin (lower, upper] of the confidence histogram."""

    lower: float
    """Lower edge; the first bin holds confidence 0 too."""
    upper: float
    """Upper edge, inside the bin."""
    correct: int
    """Right answers in the bin."""
    wrong: int
    """Wrong answers in the bin."""


class Curves(Section):
    """What the plots are drawn from."""

    reliability: tuple[ReliabilityPoint, ...]
    """Accuracy against confidence in bins of equal width."""
    risk_coverage: tuple[RiskPoint, ...]
    """Risk when only the surest share is answered; at most 200 points."""
    histogram: tuple[HistogramCount, ...]
    """Right and wrong answers by confidence, 20 bins of equal width."""


class CalibratedSummary(Section):
    """What calibrated confidences and a threshold make of the outcomes of one decoding mode."""

    method: str
    """How confidences were calibrated: isotonic, platt or temperature."""
    held_out: bool
    """Whether the calibration was made from none of these questions; if not, ece and brier are cross-validated ones."""
    ece: float
    """Expected calibration error of the calibrated confidence, bins as of the raw one; no answer counts as 0."""
    brier: float
    """Brier score of the calibrated confidence."""
    alpha: float
    """Largest share of wrong answers that the threshold promises among those given."""
    delta: float
    """Probability, over the calibration questions, with which that promise may be broken."""
    threshold: float | None
    """Least raw confidence that is answered; null where none keeps the promise."""
    answered: float
    """Share of the questions answered."""
    error: float | None
    """Share of wrong answers among those; null where none is answered."""


class ModeSummary(Section):
    """One decoding mode over n questions."""

    n: int
    """Number of questions; every metric counts all of them."""
    accuracy: float
    """Share of questions whose extracted answer is equivalent to the gold answer; no answer is wrong."""
    accuracy_flexible: float
    """Share of questions answered rightly whatever the format: also where the last number or option is the gold one."""
    ece: float
    """Expected calibration error: sum over bins of equal width of (n_b/n) |accuracy_b - mean confidence_b|; bins
    right-closed, confidence 0 in the first, none dropped; in [0, 1]."""
    ece_equal_mass: float
    """The same over bins of n/B questions each; equal confidences on an edge are shared between both bins."""
    ece_if_calibrated: float
    """Mean ECE that these confidences would show were they perfectly calibrated: the noise floor of ece."""
    brier: float
    """Mean of (confidence - correct)^2; in [0, 1]."""
    log_loss: float
    """Mean -log of the probability given to what happened, in nats; confidence clipped to [1e-7, 1 - 1e-7]."""
    auroc: float | None
    """Probability that a right answer is surer than a wrong one, ties counting half; null if all are right or all
    wrong."""
    aurc: float
    """Area under the risk-coverage curve: mean over k of the share wrong among the k surest; ties averaged."""
    excess_aurc: float
    """AURC less the AURC of the best ranking of the same answers; 0 is perfect."""
    accuracy_at_coverage: dict[str, float]
    """Accuracy on the ceil(coverage x n) surest questions, by coverage; ties averaged."""
    mean_confidence: float
    """Mean confidence."""
    mean_tokens: float
    """Mean length of the trace shown, in tokens, end of sequence included."""
    without_answer: int
    """Questions without an answer: wrong, with confidence 0."""
    without_confidence: int
    """Questions answered where the signal had no value: confidence 0."""
    truncated: int
    """Questions whose trace was cut at the token budget."""
    ungraded: int
    """Questions the grader could not decide in time: wrong."""
    intervals: dict[str, Interval]
    """95 % percentile bootstrap over questions, by metric (accuracy_at_coverage.0.8 for nested ones); null where
    undefined."""
    curves: Curves
    """What the plots are drawn from."""
    calibrated: CalibratedSummary | None = None
    """Figures of calibrated confidences; null where the model has no calibration for this signal and mode."""


class Difference(Section):
    """After less before, on the same questions."""

    value: float | None
    """After less before; null where either is."""
    interval: Interval
    """95 % percentile interval of the paired bootstrap: both sides see the same resampled questions."""
    probability_of_improvement: float | None
    """Share of paired resamples in which after is better, no change counting half; null where neither way is better."""


class Settings(Section):
    """What the figures depend on besides the outcomes."""

    bins: int
    """Bins of both calibration errors and of the reliability diagram."""
    coverages: tuple[float, ...]
    """Coverages of accuracy_at_coverage."""
    resamples: int
    """Bootstrap resamples."""
    level: float
    """Level of every interval."""
    seed: int
    """Seed of the bootstrap."""


class Summary(Section):
    """The content of ``evaluation/summary.json``."""

    schema_version: Literal[1]
    """Changes when a key changes its meaning or goes."""
    signal: str
    """The confidence signal."""
    settings: Settings
    """What the figures depend on besides the outcomes."""
    definitions: dict[str, str]
    """One line for every metric and decoding mode."""
    before: dict[Mode, ModeSummary]
    """Figures of the model before training, by decoding mode."""
    after: dict[Mode, ModeSummary] | None
    """Figures after training; null where only one model was evaluated."""
    difference: dict[Mode, dict[str, Difference]] | None
    """After less before, by decoding mode and metric; null where only one model was evaluated."""
