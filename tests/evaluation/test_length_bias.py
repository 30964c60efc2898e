"""Length bias of rewards: figures by hand, and what a scorer by length alone cannot do better than chance in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.evaluation.length_bias import LimitPair, QualityPair, RewardedResponse, length_bias

PAIRS = [
    QualityPair("a", RewardedResponse(1.0, 10), RewardedResponse(0.0, 20)),
    QualityPair("b", RewardedResponse(0.0, 10), RewardedResponse(2.0, 14)),
    QualityPair("c", RewardedResponse(3.0, 30), RewardedResponse(1.0, 12)),
    QualityPair("d", RewardedResponse(0.5, 8), RewardedResponse(0.5, 8)),
]
LIMITS = [
    LimitPair("a", "at_most", 1.0, 0.0),
    LimitPair("b", "at_most", 0.0, 1.0),
    LimitPair("c", "at_most", 2.0, 0.0),
    LimitPair("a", "at_least", 1.0, 1.0),
]


def test_by_hand() -> None:
    around = [LimitPair("a", "kept", 1, 0), LimitPair("a", "broken", 0, 1)]
    trained = [LimitPair("a", "kept", 1, 0), LimitPair("b", "kept", 0, 0), LimitPair("a", "broken", 1, 0)]
    found = length_bias(PAIRS, LIMITS, around, trained, resamples=20)
    assert found.pairs == 4
    assert found.longer_chosen == pytest.approx((1 + 0.5) / 4)
    assert found.accuracy.accuracy == pytest.approx(2.5 / 4)
    assert found.adversarial is not None
    assert (found.adversarial.pairs, found.adversarial.accuracy) == (2, 0.5)
    assert found.balanced is not None
    assert (found.balanced.pairs, found.balanced.accuracy) == (3, pytest.approx((0.5 + 1) / 2))
    assert found.length_accuracy is not None
    assert found.length_accuracy.accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.limit_accuracy is not None
    assert (found.limit_accuracy.pairs, found.limit_accuracy.accuracy) == (2, pytest.approx(0.5))
    assert found.trained_accuracy is not None
    assert (found.trained_accuracy.pairs, found.trained_accuracy.accuracy) == (3, pytest.approx((0.75 + 1) / 2))
    # Deviations within prompts: words -5 +5, -2 +2, +9 -9, 0; rewards +.5 -.5, -1 +1, +1 -1, 0.
    words, rewards = np.array([-5, 5, -2, 2, 9, -9, 0]), np.array([0.5, -0.5, -1, 1, 1, -1, 0])
    deviation = np.std([1.0, 0.0, 0.0, 2.0, 3.0, 1.0, 0.5])
    assert found.length_slope == pytest.approx(words @ rewards / (words @ words) / deviation)
    assert found.length_correlation == pytest.approx(np.corrcoef(words, rewards)[0, 1])


def test_what_cannot_be_told() -> None:
    found = length_bias(PAIRS[:2], [LIMITS[0]])
    assert (found.balanced, found.length_accuracy, found.limit_accuracy, found.trained_accuracy) == (None,) * 4
    assert found.adversarial is not None
    assert found.adversarial.interval == (0.0, 1.0)
    with pytest.raises(InputError, match="no pairs to measure length bias on"):
        length_bias([])
    with pytest.raises(InputError, match="a reward is not a number"):
        length_bias(PAIRS, [LimitPair("a", "at_most", float("nan"), 0)])


words = st.integers(1, 50)


@settings(deadline=None)
@given(st.lists(st.tuples(words, words), min_size=2, max_size=20), st.sampled_from([-1, 1]))
def test_a_scorer_by_length_is_at_chance(lengths: list[tuple[int, int]], sign: int) -> None:
    """Whichever way it goes, and whichever way the pairs lean."""
    assume(any(c < r for c, r in lengths) and any(c > r for c, r in lengths))
    pairs = [
        QualityPair(str(place), RewardedResponse(sign * c, c), RewardedResponse(sign * r, r))
        for place, (c, r) in enumerate(lengths)
    ]
    limits = [
        LimitPair(str(place), kind, sign * kept, sign * (c + r - kept))
        for place, (c, r) in enumerate(lengths)
        for kind, kept in (("at_most", min(c, r)), ("at_least", max(c, r)))
    ]
    found = length_bias(pairs, limits, resamples=1)
    assert found.balanced is not None
    assert found.balanced.accuracy == 0.5
    assert found.length_accuracy is not None
    assert found.length_accuracy.accuracy == pytest.approx(0.5)
    assert found.accuracy.accuracy == pytest.approx(found.longer_chosen if sign > 0 else 1 - found.longer_chosen)
    assert found.length_correlation == pytest.approx(sign)
