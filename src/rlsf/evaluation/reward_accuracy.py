"""How good a reward model is: pairs in the right order, probabilities that can be believed, and a taste for length.

By Bradley and Terry (1952) the chosen trace of a pair is preferred with probability p = s(r_chosen - r_rejected), s the
logistic function. Pairs of one prompt share traces, so that intervals resample prompts, not pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsf.config import Section
from rlsf.errors import InputError
from rlsf.evaluation.bootstrap import bootstrap, percentile_interval
from rlsf.evaluation.calibration import ece, reliability
from rlsf.evaluation.groups import FloatArray, IntArray
from rlsf.evaluation.schema import Interval, ReliabilityPoint

#: Names of the pairs whose chosen trace has fewer, as many, or more tokens than the rejected one.
LENGTH_ORDERS: tuple[str, ...] = ("shorter", "equal", "longer")
#: Groups of pairs by how much longer the chosen trace is.
_DIFFERENCES = 5


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A pair with the rewards of its traces, and their lengths in tokens; ``subset`` groups pairs of a benchmark."""

    prompt_id: str
    chosen_reward: float
    rejected_reward: float
    chosen_tokens: int
    rejected_tokens: int
    subset: str = ""


class PairShare(Section):
    """Accuracy over some of the pairs."""

    pairs: int
    """Number of pairs."""
    accuracy: float
    """Share of pairs whose chosen trace has the higher reward, equal rewards counting half."""
    interval: Interval
    """95 % percentile bootstrap over prompts."""


class DifferenceShare(PairShare):
    """Accuracy over the pairs whose chosen trace is longer by so many tokens; negative: shorter."""

    least: int
    """The least of length of the chosen trace less that of the rejected one, tokens."""
    most: int
    """The most of the same."""


class RewardAccuracy(Section):
    """What is measured of a reward model; the docstring under each field is its definition."""

    pairs: int
    """Number of pairs."""
    prompts: int
    """Number of prompts that they belong to."""
    accuracy: float
    """Share of pairs whose chosen trace has the higher reward, equal rewards counting half."""
    interval: Interval
    """95 % percentile bootstrap of the accuracy, over prompts."""
    mean_difference: float
    """Mean of r_chosen - r_rejected."""
    ece: float
    """Expected calibration error of p = s(r_chosen - r_rejected) in bins of equal width. Each pair counts both ways
    round, as (p, right) and (1 - p, wrong), so that it does not matter which trace is named first; in [0, 1]."""
    brier: float
    """Mean of (1 - p)^2; in [0, 1], 0.25 for a reward model that cannot tell."""
    log_loss: float
    """Mean of -log p, nats; log 2 for a reward model that cannot tell."""
    by_length: dict[str, PairShare]
    """The accuracy where the chosen trace is shorter than the rejected one, as long, or longer; orders without a pair
    are left out."""
    by_difference: tuple[DifferenceShare, ...] = ()
    """The accuracy by how much longer the chosen trace is, from the least on, in at most five groups of about as many
    pairs each; pairs with the same difference share a group."""
    length_slope: float | None
    """Reward by length: the least-squares slope of the reward on the number of tokens among the traces of each prompt,
    sum (l - mean l) (r - mean r) / sum (l - mean l)^2 with means by prompt, reward a token; null where no prompt has
    traces of different lengths."""
    length_correlation: float | None
    """The correlation of the same deviations, in [-1, 1]; null where one of them is 0 throughout."""
    chosen_longer: float
    """Mean length of the chosen traces less that of the rejected ones, tokens: the taste for length in the pairs."""
    by_subset: dict[str, PairShare]
    """The accuracy by subset; empty where the pairs name none."""
    reward_mean: float
    """Mean reward of the distinct traces."""
    reward_deviation: float
    """Standard deviation of the same (with n)."""
    reliability: tuple[ReliabilityPoint, ...]
    """Share of pairs in the stated order against p, both ways round as for the ECE."""


def reward_accuracy(
    pairs: Sequence[ScoredPair], *, bins: int = 10, resamples: int = 1000, seed: int = 0
) -> RewardAccuracy:
    """Accuracy, calibration and length sensitivity of the rewards of ``pairs``.

    A trace counts once in what is said of traces, in however many pairs it stands; traces of one prompt with the same
    reward and length are taken for one. Raises ``InputError`` for no pairs, and for a reward that is not finite.
    """
    if not pairs:
        raise InputError("no pairs to measure a reward model on: hold out more (reward_model.held_out), or give others")
    chosen, rejected = _array(pairs, "chosen_reward"), _array(pairs, "rejected_reward")
    if not np.isfinite([*chosen, *rejected]).all():
        raise InputError("a reward is not a number: the reward model's training diverged, lower its learning rate")
    difference = chosen - rejected
    probability = _logistic(difference)
    right = 0.5 * (np.sign(difference) + 1)
    lengths = _array(pairs, "chosen_tokens") - _array(pairs, "rejected_tokens")
    orders: dict[str, np.ndarray] = dict(zip(LENGTH_ORDERS, (lengths < 0, lengths == 0, lengths > 0), strict=True))
    subsets = {name: np.array([pair.subset == name for pair in pairs]) for name in sorted({p.subset for p in pairs})}
    shares = _shares(pairs, right, {"": np.ones(len(pairs), dtype=bool)}, resamples, seed)
    both = np.concatenate([probability, 1 - probability]), np.repeat([1, 0], len(pairs))
    traces = _distinct_traces(pairs)
    slope, correlation = length_sensitivity(*traces)
    return RewardAccuracy(
        pairs=len(pairs),
        prompts=len({pair.prompt_id for pair in pairs}),
        accuracy=shares[""].accuracy,
        interval=shares[""].interval,
        mean_difference=float(difference.mean()),
        ece=ece(*both, bins=bins),
        brier=float(((1 - probability) ** 2).mean()),
        log_loss=float(np.logaddexp(0.0, -difference).mean()),
        by_length=_shares(pairs, right, orders, resamples, seed),
        by_difference=_by_difference(pairs, right, lengths, resamples, seed),
        length_slope=slope,
        length_correlation=correlation,
        chosen_longer=float(lengths.mean()),
        by_subset=_shares(pairs, right, subsets, resamples, seed) if list(subsets) != [""] else {},
        reward_mean=float(traces[2].mean()),
        reward_deviation=float(traces[2].std()),
        reliability=tuple(ReliabilityPoint.model_validate(_fields(one)) for one in reliability(*both, bins=bins)),
    )


def length_sensitivity(
    prompt_ids: Sequence[str], lengths: FloatArray, rewards: FloatArray
) -> tuple[float | None, float | None]:
    """Slope (reward a token) and correlation of rewards on lengths among the traces of each prompt.

    Deviations are from the prompt's mean: prompts whose traces are long and well rewarded throughout say nothing.
    """
    _, prompt = np.unique(np.array(prompt_ids), return_inverse=True)
    count = np.bincount(prompt)
    length, reward = (values - (np.bincount(prompt, weights=values) / count)[prompt] for values in (lengths, rewards))
    square, other, product = (length**2).sum(), (reward**2).sum(), (length * reward).sum()
    if not square:
        return None, None
    return float(product / square), float(product / np.sqrt(square * other)) if other else None


def _shares(
    pairs: Sequence[ScoredPair], right: FloatArray, groups: Mapping[str, np.ndarray], resamples: int, seed: int
) -> dict[str, PairShare]:
    """The accuracy of each group of pairs that holds one, with its interval by prompt."""
    groups = {name: inside for name, inside in groups.items() if inside.any()}
    names, prompt = np.unique(np.array([pair.prompt_id for pair in pairs]), return_inverse=True)
    sums = {
        name: [np.bincount(prompt, weights=weights, minlength=len(names)) for weights in (right * inside, 1.0 * inside)]
        for name, inside in groups.items()
    }

    def measure(counts: IntArray) -> Mapping[str, FloatArray]:
        with np.errstate(invalid="ignore"):  # a resample without a pair of the group
            return {name: (counts @ won) / (counts @ total) for name, (won, total) in sums.items()}

    drawn = bootstrap(measure, len(names), resamples, seed)
    return {
        name: PairShare(
            pairs=int(inside.sum()),
            accuracy=float(right[inside].mean()),
            interval=percentile_interval(drawn[name]),
        )
        for name, inside in groups.items()
    }


def _by_difference(
    pairs: Sequence[ScoredPair], right: FloatArray, lengths: FloatArray, resamples: int, seed: int
) -> tuple[DifferenceShare, ...]:
    """The accuracy between quantiles of the difference of lengths."""
    cuts = np.quantile(lengths, np.arange(1, _DIFFERENCES) / _DIFFERENCES, method="inverted_cdf")
    place = np.searchsorted(np.unique(cuts), lengths)
    groups = {str(number): place == number for number in np.unique(place)}
    shares = _shares(pairs, right, groups, resamples, seed)
    return tuple(
        DifferenceShare(
            least=int(lengths[groups[name]].min()), most=int(lengths[groups[name]].max()), **share.model_dump()
        )
        for name, share in shares.items()
    )


def _distinct_traces(pairs: Sequence[ScoredPair]) -> tuple[list[str], FloatArray, FloatArray]:
    """Prompt, length and reward of each trace, however many pairs it stands in."""
    sides = ("chosen", "rejected")
    traces = dict.fromkeys(
        (pair.prompt_id, getattr(pair, f"{side}_tokens"), getattr(pair, f"{side}_reward"))
        for pair in pairs
        for side in sides
    )
    prompts, lengths, rewards = zip(*traces, strict=True)
    return list(prompts), np.array(lengths, dtype=np.float64), np.array(rewards, dtype=np.float64)


def _logistic(values: FloatArray) -> FloatArray:
    return np.exp(-np.logaddexp(0.0, -values))


def _array(pairs: Sequence[ScoredPair], name: str) -> FloatArray:
    return np.array([getattr(pair, name) for pair in pairs], dtype=np.float64)


def _fields(point: Any) -> dict[str, Any]:
    return {name: getattr(point, name) for name in ReliabilityPoint.model_fields}
