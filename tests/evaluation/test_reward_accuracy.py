"""Reward models are measured by pairs in order, calibrated probabilities, and their taste for length."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.evaluation.reward_accuracy import ScoredPair, length_sensitivity, reward_accuracy


def pair(
    prompt: str, chosen: float, rejected: float, lengths: tuple[int, int] = (5, 5), subset: str = ""
) -> ScoredPair:
    return ScoredPair(prompt, chosen, rejected, *lengths, subset)


def drawn(seed: int, prompts: int = 30, a_prompt: int = 4) -> list[ScoredPair]:
    random = np.random.default_rng(seed)
    return [
        pair(f"q{n}", *map(float, random.normal([0.5, 0.0])), tuple(map(int, random.integers(1, 9, 2))))
        for n in range(prompts)
        for _ in range(a_prompt)
    ]


def test_figures_by_hand() -> None:
    pairs = [
        pair("a", 2.0, 1.0, (3, 5), "x"),
        pair("a", 0.0, 1.0, (4, 4), "y"),
        pair("b", 0.5, 0.5, (9, 2), "y"),
    ]
    found = reward_accuracy(pairs, bins=2)
    s = 1 / (1 + math.exp(-1))
    assert (found.pairs, found.prompts) == (3, 2)
    assert found.accuracy == pytest.approx(0.5)  # right, wrong, a tie
    assert found.mean_difference == pytest.approx(0.0)
    assert found.brier == pytest.approx(((1 - s) ** 2 + s**2 + 0.25) / 3)
    assert found.log_loss == pytest.approx((-math.log(s) - math.log(1 - s) + math.log(2)) / 3)
    # Upper bin: p = s right, s wrong: |0.5 - s| of 2 of 6; the lower holds their mirror images, and 0.5 both ways.
    assert found.ece == pytest.approx(2 / 6 * abs(0.5 - s) + 4 / 6 * abs(0.5 - ((1 - s) * 2 + 1) / 4))
    assert {name: (share.pairs, share.accuracy) for name, share in found.by_length.items()} == {
        "shorter": (1, 1.0),
        "equal": (1, 0.0),
        "longer": (1, 0.5),
    }
    assert {name: (share.pairs, share.accuracy) for name, share in found.by_subset.items()} == {
        "x": (1, 1.0),
        "y": (2, 0.25),
    }
    assert found.chosen_longer == pytest.approx((-2 + 0 + 7) / 3)
    # Distinct traces: a has (3, 2), (5, 1), (4, 0), (4, 1); b (9, 0.5), (2, 0.5).
    assert found.reward_mean == pytest.approx(5 / 6)
    deviations = [(-1, 1), (1, 0), (0, -1), (0, 0), (3.5, 0), (-3.5, 0)]
    product, square = sum(x * y for x, y in deviations), sum(x * x for x, _ in deviations)
    assert found.length_slope == pytest.approx(product / square)
    assert found.length_correlation == pytest.approx(product / math.sqrt(square * 2))


def test_the_bins_are_as_many_as_asked_for() -> None:
    """Differences of ln 4, ln 9 and -ln 1.5: p = 0.8, 0.9 and 0.4, and their mirror images."""
    pairs = [pair(name, math.log(odds), 0.0) for name, odds in (("a", 4), ("b", 9), ("c", 2 / 3))]
    two, ten = reward_accuracy(pairs, bins=2, resamples=2), reward_accuracy(pairs, bins=10, resamples=2)
    # Above a half: 0.8, 0.9 and 0.6, two of them right; below, the mirror images.
    assert two.ece == pytest.approx(abs(2 / 3 - 2.3 / 3))
    assert ten.ece == pytest.approx((0.2 + 0.1 + 0.6) / 3)
    assert (len([p for p in two.reliability if p.count]), len([p for p in ten.reliability if p.count])) == (2, 6)


def test_accuracy_by_how_much_longer_the_chosen_trace_is() -> None:
    """A scorer of length alone is right where the chosen trace is longer, wrong where it is shorter."""
    lengths = [(8, 9), (5, 9), (9, 9), (10, 8), (12, 9), (13, 9), (14, 9), (15, 9), (16, 9), (17, 9)]
    pairs = [pair(f"q{n}", float(a), float(b), (a, b)) for n, (a, b) in enumerate(lengths)]
    found = reward_accuracy(pairs, resamples=20).by_difference
    assert [(group.least, group.most, group.pairs, group.accuracy) for group in found] == [
        *((-4, -1, 2, 0.0), (0, 2, 2, 0.75), (3, 4, 2, 1.0), (5, 6, 2, 1.0), (7, 8, 2, 1.0)),
    ]
    assert found[0].interval == (0.0, 0.0)
    alike = reward_accuracy([pair("a", 1.0, 0.0, (6, 5))] * 7 + [pair("b", 0.0, 1.0, (5, 4))]).by_difference
    assert [(group.least, group.most, group.pairs, group.accuracy) for group in alike] == [(1, 1, 8, 0.875)]


@given(seed=st.integers(0, 50))
def test_groups_by_difference_are_all_pairs_once(seed: int) -> None:
    pairs = drawn(seed)
    whole = reward_accuracy(pairs, resamples=2)
    groups = whole.by_difference
    assert sum(group.pairs for group in groups) == whole.pairs
    assert sum(group.pairs * group.accuracy for group in groups) == pytest.approx(whole.pairs * whole.accuracy)
    assert all(one.most < other.least for one, other in pairwise(groups))


def test_intervals_are_those_of_the_seed() -> None:
    pairs = drawn(5)
    first, same, other = (reward_accuracy(pairs, resamples=50, seed=seed).interval for seed in (1, 1, 2))
    assert first == same != other


def test_a_trace_counts_once_in_what_is_said_of_traces() -> None:
    once = [pair("a", 3.0, 1.0, (7, 2)), pair("a", 3.0, 2.0, (7, 4))]
    found = reward_accuracy(once)
    assert found.reward_mean == pytest.approx(2.0)
    assert found.reward_deviation == pytest.approx(math.sqrt(2 / 3))


@given(seed=st.integers(0, 200), shift=st.floats(-5, 5))
def test_a_constant_added_to_a_prompts_rewards_changes_nothing(seed: int, shift: float) -> None:
    """Bradley-Terry rewards are known up to a constant a prompt."""
    pairs = drawn(seed)
    shifted = [
        replace(p, chosen_reward=p.chosen_reward + shift, rejected_reward=p.rejected_reward + shift)
        if p.prompt_id == "q3"
        else p
        for p in pairs
    ]
    first, second = reward_accuracy(pairs, resamples=20), reward_accuracy(shifted, resamples=20)
    for name in ("accuracy", "brier", "log_loss", "length_slope", "length_correlation"):
        assert getattr(first, name) == pytest.approx(getattr(second, name), abs=1e-9), name


@given(seed=st.integers(0, 200))
def test_the_other_way_round_accuracy_is_the_rest_and_ece_the_same_for_a_fair_coin(seed: int) -> None:
    pairs = drawn(seed)
    turned = [
        ScoredPair(p.prompt_id, p.rejected_reward, p.chosen_reward, p.rejected_tokens, p.chosen_tokens) for p in pairs
    ]
    first, second = reward_accuracy(pairs, resamples=20), reward_accuracy(turned, resamples=20)
    assert first.accuracy + second.accuracy == pytest.approx(1)
    assert first.mean_difference == pytest.approx(-second.mean_difference)
    assert first.length_slope == pytest.approx(second.length_slope)


def test_probabilities_that_hold_are_calibrated() -> None:
    """Preferences drawn by the model itself: the ECE is small, and twice the logits are over-confident."""
    random = np.random.default_rng(0)
    difference = random.normal(size=40_000) * 1.5
    won = random.random(40_000) < 1 / (1 + np.exp(-difference))
    signed = np.where(won, difference, -difference)
    held, doubled = (
        reward_accuracy([pair(f"q{n}", factor * d, 0.0) for n, d in enumerate(signed)], resamples=2)
        for factor in (1, 2)
    )
    assert held.ece < 0.01
    assert doubled.ece > 0.08
    assert doubled.accuracy == held.accuracy
    assert doubled.brier > held.brier
    middle = [point for point in held.reliability if point.count > 2000]
    assert all(abs(point.accuracy - point.mean_confidence) < 0.03 for point in middle)


def test_intervals_resample_prompts() -> None:
    """Forty equal pairs of a prompt say no more than one: the interval is that of 25 prompts, not of 1000 pairs."""
    random = np.random.default_rng(1)
    right = random.random(25) < 0.7
    single = [pair(f"q{n}", 1.0 if r else -1.0, 0.0) for n, r in enumerate(right)]
    low, high = reward_accuracy(single).interval
    assert reward_accuracy(single * 40).interval == pytest.approx((low, high))
    assert high - low > 0.2


def test_a_taste_for_length_is_seen_whatever_the_prompts() -> None:
    random = np.random.default_rng(2)
    prompt = np.repeat(np.arange(200), 5)
    lengths = random.integers(10, 60, 1000).astype(float)
    # Prompts with high rewards have short traces: across prompts the slope has the other sign.
    offset = random.normal(size=200)[prompt] * 10
    rewards = 0.05 * (lengths + offset) + 0.3 * random.normal(size=1000) - 3 * offset
    slope, correlation = length_sensitivity([f"q{n}" for n in prompt], lengths + offset, rewards)
    assert slope == pytest.approx(0.05, abs=0.003)
    assert correlation > 0.8
    assert np.polyfit(lengths + offset, rewards, 1)[0] < 0


def test_nothing_to_say_of_length_where_all_are_alike() -> None:
    assert length_sensitivity(["a", "a", "b"], np.array([3.0, 3.0, 5.0]), np.array([1.0, 2.0, 3.0])) == (None, None)
    slope, correlation = length_sensitivity(["a", "a"], np.array([3.0, 4.0]), np.array([1.0, 1.0]))
    assert (slope, correlation) == (0.0, None)
    found = reward_accuracy([pair("a", 1.0, 0.0)])
    assert (found.by_subset, list(found.by_length)) == ({}, ["equal"])


def test_refusals() -> None:
    with pytest.raises(InputError, match="no pairs to measure a reward model on"):
        reward_accuracy([])
    with pytest.raises(InputError, match="a reward is not a number"):
        reward_accuracy([pair("a", math.nan, 0.0)])
