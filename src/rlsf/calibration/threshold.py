"""A threshold on the confidence: above it, answers are wrong at most so often, with a guarantee.

The rule "answer where confidence >= t" has the selective risk R(t) = P(wrong | confidence >= t). Wanted is a t with
R(t) <= alpha, and wrongly claimed with probability at most delta over the draw of the calibration questions.

*One threshold.* Of m questions that are answered at a fixed t, the number of wrong ones is Binomial(m, R(t)) given m.
p = P(Binomial(m, alpha) <= errors) is therefore a valid p-value against R(t) > alpha, without approximation; p <= delta
says the same as Clopper and Pearson's upper bound of level 1 - delta being at most alpha.

*Thresholds from the sample.* Let c be the k-th largest confidence. Given c, the questions above c are independent draws
from "confidence > c", and those at c have the risk there. Where R does not rise with t, which is all that is assumed of
the signal, the risk at c is at least R(c) and R(above c) at most that, so that the errors among the m >= k questions at
or above c are stochastically at least Binomial(m, R(c)): p stays valid for a c that the sample chose.

*Many thresholds.* Counts k_1 < k_2 < ... fixed by n, alpha and delta alone are tested in this order, from the surest
down, each at level delta, until the first that is not rejected (fixed sequence testing; Learn then Test, Angelopoulos
et al. 2021, arXiv 2110.01052, section 3.2). Where R crosses alpha once, at t*, a wrong claim has to pass the first
tested c below t*. Of the questions at or above that c, those at or above t* are wrong at the rate R(t*) >= alpha and
those below it at a rate of at least alpha, whatever made this test the first one below: the errors are stochastically
at least Binomial(m, alpha) and p <= delta has probability delta at most. No union bound is paid, unlike the binary
search of Geifman and El-Yaniv 2017 (arXiv 1705.08500). Equal confidences are answered together or not at all; every
group of equal ones is tested as a whole, so that a jump of R at a value that several share is met by a test of its own.
(A value that is shared in the world, but had by one of the questions at most, is met by none. Such values are rare, and
in simulations the promise was broken less often than under laws without them.)

*Which counts.* Between two counts at which one more error is allowed a further test could only fail: k_j are the counts
at which the errors allowed, max {e: P(Binomial(k, alpha) <= e) <= delta}, grow. The first counts allow no error at all,
and one unlucky answer among the surest would end the sequence: it begins at the first k_j >= n / 5. Answering less than
a fifth is hardly asked for, and where the surest answers err as well a later start finds much more. Where n / 5 is
less than the smallest count that could reject, ceil(log delta / log (1 - alpha)), it begins there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from rlsf.calibration.calibrators import Probability, in_range
from rlsf.config import Section
from rlsf.errors import InputError
from rlsf.evaluation.groups import FloatArray, checked

#: The sequence of tests begins at this share of the questions, the surest.
START = 0.2


class Threshold(Section):
    """Answer where the confidence is at least ``value``; None where no threshold keeps the promise: answer nothing."""

    value: Probability | None
    """Least confidence (the signal's own, not calibrated) that is answered."""
    alpha: float = Field(gt=0, lt=1)
    """Largest share of wrong answers among those given."""
    delta: float = Field(gt=0, lt=1)
    """Probability, over the calibration questions, with which the promise may be broken."""
    questions: int = Field(ge=1)
    """Calibration questions, unanswerable ones included."""
    answered: Probability
    """Share of them at or above the threshold."""
    error: Probability | None
    """Share of wrong answers among these; null where none is answered."""
    bound: Probability | None
    """Upper bound of level 1 - delta on the error among answered questions (Clopper-Pearson); null as above."""
    reason: str | None = None
    """Why there is no threshold; null where there is one."""

    def answers(self, confidence: ArrayLike) -> np.ndarray:
        """Whether to answer, of confidences of any shape."""
        values = in_range(confidence)
        return np.zeros(values.shape, bool) if self.value is None else values >= self.value


@lru_cache(maxsize=32)
def log_factorials(n: int) -> FloatArray:
    """log 0!, ..., log n!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


def binomial_tail(errors: int, trials: int, rate: float) -> float:
    """P(Binomial(trials, rate) <= errors), in [0, 1], for 0 < rate < 1."""
    if errors >= trials:
        return 1.0
    logs, counts = log_factorials(1 << trials.bit_length()), np.arange(errors + 1)
    terms = logs[trials] - logs[counts] - logs[trials - counts]
    return min(1.0, float(np.exp(terms + counts * np.log(rate) + (trials - counts) * np.log1p(-rate)).sum()))


def upper_bound(errors: int, trials: int, delta: float) -> float:
    """Clopper and Pearson's upper bound of level 1 - delta on a rate: the largest that ``errors`` do not reject."""
    if errors >= trials:
        return 1.0
    low, high = errors / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_tail(errors, trials, middle) > delta else (low, middle)
    return high


@lru_cache(maxsize=64)
def tested_counts(questions: int, alpha: float, delta: float) -> tuple[int, ...]:
    """The counts k_1 < k_2 < ... <= n that are tested, by n, alpha and delta alone; empty where n is too small."""
    counts, errors, trials = [], 0, smallest_count(alpha, delta)
    while trials <= questions:
        if binomial_tail(errors, trials, alpha) <= delta:
            counts.append(trials)
            errors += 1
        trials += 1
    if counts and counts[-1] < questions:
        counts.append(questions)
    return tuple(count for count in counts if count >= min(START * questions, counts[-1]))


def smallest_count(alpha: float, delta: float) -> int:
    """The fewest answers, all of them right, that show an error of at most alpha: (1 - alpha)^k <= delta."""
    return int(np.ceil(np.log(delta) / np.log1p(-alpha)))


def fit_threshold(confidence: ArrayLike, correct: ArrayLike, alpha: float = 0.05, delta: float = 0.05) -> Threshold:
    """The lowest threshold found with P(wrong | confidence >= threshold) <= alpha, at confidence 1 - delta.

    ``confidence`` [n] in [0, 1] and ``correct`` [n] of independent questions like those to come. The procedure and what
    it assumes is in the module's docstring. Where no threshold is found, ``value`` is None and ``reason`` says why.
    Raises ``InputError`` for an alpha or delta outside (0, 1) and as ``rlsf.evaluation.ece`` does.
    """
    for name, level in (("alpha", alpha), ("delta", delta)):
        if not 0 < level < 1:
            raise InputError(f"{name} is {level}: give a share between 0 and 1, such as 0.05")
    values, outcomes = checked(confidence, correct)
    order = np.argsort(-values, kind="stable")
    values, wrong = values[order], np.cumsum(1 - outcomes[order])
    found: tuple[float, int, int] | None = None
    reason = None
    for count in _ends(values, tested_counts(len(values), alpha, delta)):
        errors = int(wrong[count - 1])
        if binomial_tail(errors, count, alpha) > delta:
            reason = f"{errors} of the {count} surest answers are wrong, too many to show an error of at most {alpha:g}"
            break
        found = float(values[count - 1]), count, errors
    if found is None:
        few = f"{len(values)} questions are too few: {smallest_count(alpha, delta)} right answers are the least"
        return Threshold(
            value=None, alpha=alpha, delta=delta, questions=len(values), answered=0.0, error=None, bound=None,
            reason=reason or few,
        )  # fmt: skip
    value, count, errors = found
    return Threshold(
        value=value,
        alpha=alpha,
        delta=delta,
        questions=len(values),
        answered=count / len(values),
        error=errors / count,
        bound=upper_bound(errors, count, delta),
    )


def _ends(values: FloatArray, counts: tuple[int, ...]) -> list[int]:
    """The tests in their order: each count with all that tie with its last question, and each group of equal values.

    ``values`` are sorted, the surest first.
    """
    if not counts:
        return []
    upto = np.searchsorted(-values, -values, side="right")
    before = np.searchsorted(-values, -values, side="left")
    groups = upto[(upto - before > 1) & (upto >= counts[0])]
    return sorted({*upto[np.asarray(counts) - 1].tolist(), *groups.tolist()})
