"""Every metric of one decoding mode, computed for the questions themselves or for resamples of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlsf.evaluation.calibration import (
    grouped_ece,
    grouped_ece_equal_mass,
    negative_log_likelihoods,
    squared_errors,
)
from rlsf.evaluation.groups import FloatArray, Grouping, IntArray
from rlsf.evaluation.outcomes import Outcome
from rlsf.evaluation.selective import (
    grouped_accuracy_at_coverage,
    grouped_aurc,
    grouped_auroc,
    grouped_best_aurc,
)

#: Which way is better. Metrics without an entry (``mean_tokens``, ``mean_confidence``) have no better way.
HIGHER_IS_BETTER = {
    "accuracy": True,
    "accuracy_flexible": True,
    "ece": False,
    "ece_equal_mass": False,
    "brier": False,
    "log_loss": False,
    "auroc": True,
    "aurc": False,
    "excess_aurc": False,
    "accuracy_at_coverage": True,
}


def coverage_metric(coverage: float) -> str:
    """The name of accuracy at one coverage: ``accuracy_at_coverage.0.8``."""
    return f"accuracy_at_coverage.{coverage:g}"


def higher_is_better(metric: str) -> bool | None:
    """Whether a higher value is better; None where neither way is."""
    return HIGHER_IS_BETTER.get(metric.partition(".")[0])


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The outcomes of one decoding mode as columns, every array [n], one entry a question."""

    confidence: FloatArray
    correct: IntArray
    correct_flexible: IntArray
    tokens: IntArray

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Sample:
        """The columns of outcomes, order kept."""
        return cls(
            np.array([outcome.confidence for outcome in outcomes], np.float64),
            np.array([outcome.correct for outcome in outcomes], np.int64),
            np.array([outcome.correct_flexible for outcome in outcomes], np.int64),
            np.array([outcome.tokens for outcome in outcomes], np.int64),
        )


class Metrics:
    """The metrics of a sample as a function of how often each question counts."""

    def __init__(self, sample: Sample, bins: int = 10, coverages: Sequence[float] = ()) -> None:
        self.questions = len(sample.confidence)
        self.grouping = Grouping(sample.confidence, sample.correct)
        self.bins, self.coverages = bins, tuple(coverages)
        self.averaged = {
            "accuracy": sample.correct,
            "accuracy_flexible": sample.correct_flexible,
            "brier": squared_errors(sample.confidence, sample.correct),
            "log_loss": negative_log_likelihoods(sample.confidence, sample.correct),
            "mean_confidence": sample.confidence,
            "mean_tokens": sample.tokens,
        }

    def __call__(self, counts: IntArray) -> dict[str, FloatArray]:
        """Each metric of resamples with ``counts`` [b, n], n in every row: values [b], NaN where undefined."""
        columns = np.stack(list(self.averaged.values()), axis=1).astype(np.float64)
        means = counts.astype(np.float64) @ columns / self.questions
        groups = self.grouping.groups(counts)
        aurc = grouped_aurc(groups)
        covered = grouped_accuracy_at_coverage(groups, self.coverages) if self.coverages else np.empty((len(counts), 0))
        return {
            **{name: means[:, index] for index, name in enumerate(self.averaged)},
            "ece": grouped_ece(groups, self.bins),
            "ece_equal_mass": grouped_ece_equal_mass(groups, self.bins),
            "auroc": grouped_auroc(groups),
            "aurc": aurc,
            "excess_aurc": aurc - grouped_best_aurc(groups),
            **{coverage_metric(c): covered[:, index] for index, c in enumerate(self.coverages)},
        }

    def values(self) -> dict[str, float]:
        """Each metric of the sample itself, NaN where undefined."""
        measured = self(np.ones((1, self.questions), np.int64))
        return {name: float(value[0]) for name, value in measured.items()}
