"""The bootstrap over questions: how much would a figure move had other questions been asked?

A resample is a vector of counts, how often each question was drawn, so that thousands of them are measured in a
few array operations. The same number of questions and the same seed give the same resamples: figures before and
after, over the same questions in the same order, are therefore paired by subtracting their distributions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from rlsf.errors import InputError
from rlsf.evaluation.groups import FloatArray, IntArray

#: Counts held in memory at once; results do not depend on it.
CHUNK = 1_000_000

Measure = Callable[[IntArray], Mapping[str, FloatArray]]


def resample_counts(questions: int, resamples: int, seed: int, chunk: int = CHUNK) -> Iterator[IntArray]:
    """Counts [b, n] of ``resamples`` draws of n questions with replacement, a chunk of rows at a time."""
    if questions < 1 or resamples < 1:
        raise InputError(f"{resamples} resamples of {questions} questions: give at least 1 of each")
    generator = np.random.default_rng(seed)
    step = max(1, chunk // questions)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(questions, size=(rows, questions)) + np.arange(rows)[:, None] * questions
        yield np.bincount(drawn.ravel(), minlength=rows * questions).reshape(rows, questions)


def bootstrap(measure: Measure, questions: int, resamples: int, seed: int, chunk: int = CHUNK) -> dict[str, FloatArray]:
    """The distribution [resamples] of each metric; ``measure`` maps counts [b, n] to values [b] by name."""
    parts = [measure(counts) for counts in resample_counts(questions, resamples, seed, chunk)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def percentile_interval(distribution: FloatArray, level: float = 0.95) -> tuple[float, float] | None:
    """The central ``level`` of a distribution, over the resamples where the metric is defined; None if in none."""
    defined = distribution[np.isfinite(distribution)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def probability_of_improvement(difference: FloatArray, higher_is_better: bool) -> float | None:
    """Share of paired resamples in which after is better than before, no change counting half; None if undefined.

    0.5 says nothing happened; above 0.975 or below 0.025 is what a two-sided 5 % test would call a change.
    """
    defined = difference[np.isfinite(difference)]
    if not len(defined):
        return None
    gain = defined if higher_is_better else -defined
    return float(np.mean(gain > 0) + 0.5 * np.mean(gain == 0))
