"""Two levels of chance: which questions were asked, and which seeds a method was run with.

Questions are the same for all methods and seeds, so that a resample of them is one vector of counts for everything
that is compared. Seeds belong to a method and are resampled within it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt

import numpy as np
from scipy.stats import t as student

from rlsf.evaluation.bootstrap import bootstrap, percentile_interval
from rlsf.evaluation.groups import FloatArray, IntArray
from rlsf.evaluation.metrics import Metrics
from rlsf.evaluation.summary import LEVEL

#: Counts held in memory at once: what fits a processor's cache is measured twice as fast.
CHUNK = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class TwoLevel:
    """One figure of one method: the mean over its seeds, and how that moves with other questions and other seeds.

    ``by_seed`` [S]: the figure of each run, NaN where undefined. ``distribution`` [resamples]: the mean, resampled.
    ``seed_variance``: what the spread of the runs says about the mean; ``seeds``: from how many runs it was estimated.
    """

    by_seed: FloatArray
    distribution: FloatArray
    seed_variance: float
    seeds: int

    @property
    def value(self) -> float:
        """The mean over the seeds where the figure is defined; NaN if it is in none."""
        defined = self.by_seed[np.isfinite(self.by_seed)]
        return float(defined.mean()) if len(defined) else nan

    def interval(self, low: float = 0.0, high: float = inf) -> tuple[float, float] | None:
        """95 % interval, cut to [low, high]: percentiles, stretched about their median for what few seeds tell.

        The variance between S seeds is known with S - 1 degrees of freedom, not with the infinitely many of the normal
        distribution that a percentile goes by: the factor is t(.975, nu) / t(.975, inf), nu after Satterthwaite. It is
        1 for one seed and where seeds agree, so that the interval is the plain bootstrap's.
        """
        bounds = percentile_interval(self.distribution, LEVEL)
        if bounds is None or not isfinite(self.value):
            return None
        defined = self.distribution[np.isfinite(self.distribution)]
        nu = degrees_of_freedom(float(defined.var()), [(self.seed_variance, self.seeds)])
        factor = 1.0 if nu == inf else quantile(nu) / quantile(inf)
        centre = float(np.median(defined)) if factor > 1 else 0.0
        stretched = [centre + factor * (bound - centre) if factor > 1 else bound for bound in bounds]
        return max(low, stretched[0]), min(high, stretched[1])


def quantile(nu: float) -> float:
    """The two-sided 95 % quantile of Student's distribution with ``nu`` degrees of freedom."""
    return float(student.ppf(0.5 + LEVEL / 2, nu))


def degrees_of_freedom(variance: float, parts: Sequence[tuple[float, int]]) -> float:
    """Satterthwaite's nu of a variance of which some parts (v, S) were estimated from S seeds, the rest exactly.

    variance^2 / sum_i v_i^2 / (S_i - 1) (Satterthwaite 1946, doi 10.2307/3002019); infinite without such parts.
    """
    uncertain = sum(part**2 / (seeds - 1) for part, seeds in parts if seeds > 1)
    return max(variance**2 / uncertain, min(s - 1 for v, s in parts if s > 1 and v > 0)) if uncertain > 0 else inf


def resample_questions(
    measures: Mapping[tuple[str, int], Metrics], questions: int, resamples: int, seed: int
) -> dict[tuple[str, int], dict[str, FloatArray]]:
    """Every metric of every run (method, seed) on the same resampled questions: [resamples] by run and metric."""

    def measure(counts: IntArray) -> dict[str, FloatArray]:
        return {
            f"{index} {metric}": values
            for index, metrics in enumerate(measures.values())
            for metric, values in metrics(counts).items()
        }

    drawn: dict[tuple[str, int], dict[str, FloatArray]] = {run: {} for run in measures}
    runs = list(measures)
    for key, values in bootstrap(measure, questions, resamples, seed, CHUNK).items():
        index, _, metric = key.partition(" ")
        drawn[runs[int(index)]][metric] = values
    return drawn


def two_level(name: str, by_seed: Sequence[float], resampled: Sequence[FloatArray], seed: int) -> TwoLevel:
    """The crossed bootstrap of the mean over seeds: seeds are drawn anew for every resample of the questions.

    ``by_seed`` [S]: the figure x_s of each run; ``resampled`` S times [B]: the same on resampled questions, x_sb. With
    k_s of S draws for seed s the mean becomes, m being the mean of x_s over seeds,

        mean_s x_sb + sqrt(c S / (S - 1)) (sum_s k_s x_s / S - m),    c = max(0, 1 - w / v).

    S / (S - 1) undoes that S drawn values vary by less than S new seeds would. c takes off the variance v between runs
    the part w that the questions bring about, each seed answering some of them otherwise: the first term has it already
    (w is the variance over seeds of x_sb - x_s, averaged over resamples). Drawing questions and seeds without it counts
    that part twice or more (Owen 2007, "The pigeonhole bootstrap", doi 10.1214/07-AOAS122). One seed gives the plain
    bootstrap over questions. Runs where the figure is undefined are left out. ``name`` and ``seed`` determine the
    draws, whatever else is compared.
    """
    figures = np.asarray(by_seed, np.float64)
    defined = [index for index, figure in enumerate(by_seed) if isfinite(figure)]
    if not defined:
        return TwoLevel(figures, np.full(len(resampled[0]), nan), 0.0, 0)
    runs = np.stack([resampled[index] for index in defined], axis=1)  # [B, S]
    count = len(defined)
    if count == 1:
        return TwoLevel(figures, runs[:, 0], 0.0, 1)
    between = float(figures[defined].var(ddof=1))
    moved = (runs - figures[defined])[np.isfinite(runs).all(axis=1)]
    by_questions = float(moved.var(axis=1, ddof=1).mean()) if len(moved) else 0.0
    kept = max(0.0, 1 - by_questions / between) if between > 0 else 0.0
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn = generator.multinomial(count, [1 / count] * count, size=len(runs)) / count
    other_seeds = (drawn - 1 / count) @ figures[defined]
    distribution = runs.mean(axis=1) + sqrt(kept * count / (count - 1)) * other_seeds
    return TwoLevel(figures, distribution, between / count, count)
