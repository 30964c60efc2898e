"""Whether a reward model goes by length: where length misleads it, and whether it minds a limit that the prompt sets.

A scorer that goes by length alone has 0.5 in ``balanced`` and in ``length_accuracy`` by construction, whichever way
pairs lean; arXiv 2502.00814 has pairs rewritten by a large model for the same end. Lengths are numbers of words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlsf.config import Section
from rlsf.errors import InputError
from rlsf.evaluation.bootstrap import bootstrap, percentile_interval
from rlsf.evaluation.groups import FloatArray, IntArray
from rlsf.evaluation.reward_accuracy import PairShare, length_sensitivity


@dataclass(frozen=True, slots=True)
class RewardedResponse:
    """A response to a prompt: its reward, and its length in words."""

    reward: float
    words: int


@dataclass(frozen=True, slots=True)
class QualityPair:
    """Two responses to one prompt, of which ``chosen`` is the better one."""

    prompt_id: str
    chosen: RewardedResponse
    rejected: RewardedResponse


@dataclass(frozen=True, slots=True)
class LimitPair:
    """Rewards where a length limit is kept and where it is broken.

    ``group`` says which of several kinds of comparison it is.
    """

    prompt_id: str
    group: str
    kept: float
    broken: float


class LengthBias(Section):
    """What is measured of a reward model; shares have 95 % percentile bootstraps over prompts, ties count half."""

    pairs: int
    """Number of pairs that it is measured on."""
    longer_chosen: float
    """Share of these whose chosen response has more words: the accuracy of a scorer that prefers whatever is longer,
    equal lengths counting half."""
    accuracy: PairShare
    """Share of pairs whose chosen response has the higher reward."""
    adversarial: PairShare | None
    """The same where the chosen response has fewer words; null without such pairs."""
    balanced: PairShare | None
    """Mean of that and of the accuracy where the chosen response has more words; 0.5 for a scorer by length alone.
    Null unless there are pairs of both."""
    length_accuracy: PairShare | None
    """Of two responses to a prompt with a limit between their lengths, that which keeps it has the higher reward: the
    mean of the shares for upper and lower limits, 0.5 for a scorer by length alone. Null unless there are both."""
    limit_accuracy: PairShare | None
    """A response has the higher reward under the prompt that it obeys: without a limit rather than with one that it
    breaks, with one that it keeps rather than without. The mean of both shares, over better and worse responses alike,
    each under upper and lower limits at the same two numbers, around its length. 0.5 for a scorer that does not read
    the number, or not the kind, of a limit, whatever it makes of there being one. Null unless there are both."""
    trained_accuracy: PairShare | None
    """Share of the comparisons as training has them that are in order: the better response under a limit that it
    breaks, the worse one under a limit that it keeps; mean of both. No proof that limits are read: a scorer that takes
    any limit as a reason to mark down what is better, and up what is worse, has 1. Null unless there are both."""
    length_slope: float | None
    """Least-squares slope of the reward on words among the responses to each prompt, in deviations of all rewards."""
    length_correlation: float | None
    """The correlation of the same, in [-1, 1]."""


def length_bias(
    pairs: Sequence[QualityPair],
    limits: Sequence[LimitPair] = (),
    around: Sequence[LimitPair] = (),
    trained: Sequence[LimitPair] = (),
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> LengthBias:
    """Accuracies where length misleads, obedience to limits, and what a word more is worth.

    ``limits``: two responses to a prompt with a limit, in groups by its kind. The others have one response under two
    prompts, in groups by whether the limit is ``kept`` or ``broken``: ``around``, responses each under as many of both,
    and ``trained``, comparisons as in training. Raises ``InputError`` for no pairs and for a reward that is no number.
    """
    if not pairs:
        raise InputError("no pairs to measure length bias on: hold out more (reward_model.held_out), or give others")
    quality = [_Won(pair.prompt_id, _order(pair), pair.chosen.reward, pair.rejected.reward) for pair in pairs]
    under_limits = [
        [_Won(one.prompt_id, one.group, one.kept, one.broken) for one in given] for given in (limits, around, trained)
    ]
    everything = [*quality, *(one for given in under_limits for one in given)]
    if not np.isfinite([(one.higher, one.lower) for one in everything]).all():
        raise InputError("a reward is not a number: the reward model's training diverged, lower its learning rate")
    orders = [one.group for one in quality]
    responses = dict.fromkeys((pair.prompt_id, side) for pair in pairs for side in (pair.chosen, pair.rejected))
    rewards = np.array([response.reward for _, response in responses])
    words = np.array([response.words for _, response in responses], dtype=np.float64)
    slope, correlation = length_sensitivity([prompt for prompt, _ in responses], words, rewards)

    def balanced(given: Sequence[_Won], *groups: str) -> PairShare | None:
        return _mean_of_groups(given, groups or sorted({one.group for one in given}), resamples, seed)

    accuracy = balanced([_Won(one.prompt_id, "", one.higher, one.lower) for one in quality], "")
    assert accuracy is not None
    return LengthBias(
        pairs=len(pairs),
        longer_chosen=(orders.count("longer") + 0.5 * orders.count("equal")) / len(pairs),
        accuracy=accuracy,
        adversarial=balanced(quality, "shorter"),
        balanced=balanced(quality, "shorter", "longer"),
        length_accuracy=balanced(under_limits[0], "at_least", "at_most"),
        limit_accuracy=balanced(under_limits[1], "broken", "kept"),
        trained_accuracy=balanced(under_limits[2], "broken", "kept"),
        length_slope=None if slope is None or not rewards.std() else slope / float(rewards.std()),
        length_correlation=correlation,
    )


@dataclass(frozen=True, slots=True)
class _Won:
    """A comparison that a good scorer decides for ``higher``."""

    prompt_id: str
    group: str
    higher: float
    lower: float


def _order(pair: QualityPair) -> str:
    difference = pair.chosen.words - pair.rejected.words
    return "shorter" if difference < 0 else "longer" if difference else "equal"


def _mean_of_groups(given: Sequence[_Won], groups: Sequence[str], resamples: int, seed: int) -> PairShare | None:
    """The mean of the groups' shares of comparisons won, each group weighing the same; None where one is empty."""
    inside = [one for one in given if one.group in groups]
    if not groups or {one.group for one in inside} != set(groups):
        return None
    names, prompt = np.unique(np.array([one.prompt_id for one in inside]), return_inverse=True)
    won = 0.5 * (np.sign([one.higher - one.lower for one in inside]) + 1)
    masks = [np.array([one.group == group for one in inside]) for group in groups]
    sums = [
        [np.bincount(prompt, weights=weights, minlength=len(names)) for weights in (won * mask, 1.0 * mask)]
        for mask in masks
    ]

    def measure(counts: IntArray) -> Mapping[str, FloatArray]:
        with np.errstate(invalid="ignore"):  # a resample without a comparison of a group
            return {"share": np.mean([(counts @ right) / (counts @ total) for right, total in sums], axis=0)}

    drawn = bootstrap(measure, len(names), resamples, seed)["share"]
    return PairShare(
        pairs=len(inside),
        accuracy=float(np.mean([won[mask].mean() for mask in masks])),
        interval=percentile_interval(drawn),
    )
