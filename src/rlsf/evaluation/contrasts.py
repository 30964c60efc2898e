"""Is one method better than another? Differences on the same questions, and their p values."""

from __future__ import annotations

from math import inf, isfinite, sqrt

import numpy as np
from scipy.stats import t as student

from rlsf.evaluation.comparison_schema import Contrast
from rlsf.evaluation.two_level import TwoLevel, degrees_of_freedom, quantile

#: Differences below this are what rounding leaves of none.
_ROUNDING = 1e-12


def contrast(first: TwoLevel, second: TwoLevel, questions: int, step: float = 0.0) -> Contrast:
    """``second`` less ``first``, both resampled on the same questions: interval and two-sided p of no difference.

    A t test. With d the difference, s its standard deviation over the two-level bootstrap, n questions and h half a
    ``step`` of what the figure can take (0 where it is continuous):

        t = (|d| - h) / sqrt(s^2 + d^2 / n),   p = 2 P(T_nu > t),   nu after Satterthwaite, p = 1 for d = 0.

    Why not count resamples or permutations: B of them give no p below 1 / B, and twenty methods make 190 pairs, of
    which Holm's correction needs p < .05 / 190. A permutation also holds the trained models fixed, and so says nothing
    about other seeds. For one seed and a mean over questions, s^2 + d^2 / n is what permutations vary by (questions'
    signs flipped at random), and for accuracy t is McNemar's with Edwards' correction (Edwards 1948, doi
    10.1007/BF02289261): a few questions that changed are no proof. The interval holds the differences that the same
    test does not reject, so it excludes zero exactly where p < .05; it is cut to [-1, 1] at the end.

    Pairing questions: arXiv 2411.00640, sec. 4. The error of both calibration figures is that of the plug-in estimate:
    ECE favours methods whose confidences lie in few bins.
    """
    value = second.value - first.value
    distribution = second.distribution - first.distribution
    distribution = distribution[np.isfinite(distribution)]
    if not isfinite(value) or not len(distribution):
        return Contrast(value=None, interval=None, p=None)
    value = 0.0 if abs(value) < _ROUNDING else value
    variance = float(distribution.var())
    parts = [(one.seed_variance, one.seeds) for one in (first, second)]
    nu = degrees_of_freedom(variance, parts)
    noise = sqrt(variance + value**2 / questions)
    reduced = abs(value) - step / 2
    p = 2 * float(student.sf(reduced / noise, nu)) if noise > 0 and reduced > 0 else 1.0
    reach = _reach(sqrt(variance), quantile(nu), questions, step / 2)
    return Contrast(value=value, interval=(max(-1.0, value - reach), min(1.0, value + reach)), p=p)


def _reach(deviation: float, q: float, questions: int, half: float) -> float:
    """The largest x that the test does not reject: x - h = q sqrt(s^2 + x^2 / n), solved for x."""
    share = q**2 / questions
    if share >= 1:
        return inf
    return (half + sqrt(share * half**2 + (1 - share) * (q * deviation) ** 2)) / (1 - share)
