"""How well a recovered reward tells two models apart, what it goes with, and whether it knows right from wrong.

A reward is known up to a constant, and in a unit of its own: everything here depends on order alone, but for the
accuracy of a threshold, which is fitted to other questions than those that it is measured on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlsf.config import Section
from rlsf.evaluation.groups import FloatArray
from rlsf.evaluation.selective import auroc


class RightAndWrong(Section):
    """How well a score orders right before wrong traces."""

    traces: int
    """Graded traces."""
    right: int
    """Right ones among them."""
    auroc: float | None
    """Probability that a right trace has the higher score than a wrong one, equal ones half; null without both."""
    auroc_within: float | None
    """The same for traces of one question, over all such pairs; null where no question has both."""
    accuracy: float | None
    """Share of traces that a threshold of the score puts on the right side. Questions are split in two, and each half's
    threshold is fitted to the other half; null for fewer than two questions."""
    majority: float
    """Share of the more frequent of right and wrong: the accuracy without any score."""


def order_auroc(scores: Sequence[float] | FloatArray, positive: Sequence[bool]) -> float | None:
    """AUROC of scores of any unit, equal ones counting half; None without both classes."""
    if len(set(positive)) < 2:
        return None
    _, rank = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    return float(auroc(rank / max(1, rank.max()), np.asarray(positive)))


def right_and_wrong(scores: FloatArray, correct: Sequence[bool], question_ids: Sequence[str]) -> RightAndWrong:
    """What a score of traces, each [n], says of their correctness."""
    graded = np.asarray(correct, dtype=bool)
    return RightAndWrong(
        traces=len(graded),
        right=int(graded.sum()),
        auroc=order_auroc(scores, list(graded)),
        auroc_within=_auroc_within(scores, graded, question_ids),
        accuracy=_threshold_accuracy(scores, graded, question_ids),
        majority=float(max(graded.mean(), 1 - graded.mean())),
    )


def within_kendall(rewards: FloatArray, feature: FloatArray, prompt_ids: Sequence[str]) -> float | None:
    """Kendall's tau-b of a reward and a feature over pairs of traces of one prompt, in [-1, 1].

    sum s_r s_f / sqrt(sum |s_r| sum |s_f|), with s the signs of the differences within all pairs of one prompt: for one
    prompt, tau-b. None where a difference is 0 throughout.
    """
    one, other = _pairs_of_one_prompt(prompt_ids)
    of_rewards, of_feature = (np.sign(values[one] - values[other]) for values in (rewards, feature))
    size = np.sqrt(np.abs(of_rewards).sum() * np.abs(of_feature).sum())
    return float((of_rewards * of_feature).sum() / size) if size else None


def spearman(one: FloatArray, other: FloatArray) -> float | None:
    """Spearman's correlation: that of ranks, equal values sharing their mean rank; None where one is constant."""
    if not len(one) or not np.ptp(one) or not np.ptp(other):
        return None
    return float(np.corrcoef(_mean_ranks(one), _mean_ranks(other))[0, 1])


def _mean_ranks(values: FloatArray) -> FloatArray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _auroc_within(scores: FloatArray, graded: np.ndarray, question_ids: Sequence[str]) -> float | None:
    one, other = _pairs_of_one_prompt(question_ids)
    differ = graded[one] != graded[other]
    if not differ.any():
        return None
    sign = np.where(graded[one], 1, -1)[differ] * np.sign(scores[one] - scores[other])[differ]
    return float(0.5 * (sign + 1).mean())


def _pairs_of_one_prompt(prompt_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Places of every pair of traces of one prompt."""
    places: dict[str, list[int]] = {}
    for place, prompt_id in enumerate(prompt_ids):
        places.setdefault(prompt_id, []).append(place)
    pairs = [(i, j) for group in places.values() for n, i in enumerate(group) for j in group[n + 1 :]]
    one, other = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return one, other


def _threshold_accuracy(scores: FloatArray, graded: np.ndarray, question_ids: Sequence[str]) -> float | None:
    """Two halves of the questions, each judged by the other's threshold."""
    _, question = np.unique(np.array(question_ids), return_inverse=True)
    half = question % 2 == 0
    if half.all():
        return None
    right = 0
    for inside in (half, ~half):
        threshold = _best_threshold(scores[~inside], graded[~inside])
        right += int(((scores[inside] > threshold) == graded[inside]).sum())
    return right / len(scores)


def _best_threshold(scores: FloatArray, graded: np.ndarray) -> float:
    """The midpoint between neighbouring scores, or an end, above which most right and fewest wrong traces lie."""
    values, place = np.unique(scores, return_inverse=True)
    gain = np.bincount(place, weights=np.where(graded, 1.0, -1.0))
    # Entry k: how much is gained by calling everything from values[k] on right.
    above = np.append(np.cumsum(gain[::-1])[::-1], 0.0)
    edges = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    return float(edges[int(above.argmax())])
