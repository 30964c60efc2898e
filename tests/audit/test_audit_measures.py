"""What is measured of a recovered reward: order alone, within prompts and over them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import roc_auc_score

from rlsf.audit.measures import order_auroc, right_and_wrong, spearman, within_kendall

SCORES = st.lists(st.tuples(st.integers(-4, 4), st.integers(-3, 3)), min_size=3, max_size=20)


@settings(deadline=None)
@given(SCORES)
def test_correlations_are_scipys(rows: list[tuple[int, int]]) -> None:
    one, other = np.array(rows, dtype=np.float64).T
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert spearman(one, other) is None
        assert within_kendall(one, other, ["q"] * len(one)) is None
        return
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert within_kendall(one, other, ["q"] * len(one)) == pytest.approx(kendalltau(one, other).statistic)


def test_kendall_sees_pairs_of_one_prompt_alone() -> None:
    """Over all traces the two rise together; within each prompt they fall apart."""
    rewards, feature = np.array([1.0, 2.0, 11.0, 12.0]), np.array([2.0, 1.0, 12.0, 11.0])
    assert within_kendall(rewards, feature, ["a", "a", "b", "b"]) == -1.0
    assert spearman(rewards, feature) == pytest.approx(0.6)
    assert within_kendall(rewards, feature, ["a", "b", "c", "d"]) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), min_size=2, max_size=30), st.floats(-1e3, 1e3))
def test_auroc_is_sklearns_in_any_unit(rows: list[tuple[float, bool]], constant: float) -> None:
    scores, positive = [score for score, _ in rows], [label for _, label in rows]
    found = order_auroc(scores, positive)
    if len(set(positive)) < 2:
        assert found is None
    else:
        assert found == pytest.approx(roc_auc_score(positive, scores))
        rounded = np.round(scores)
        assert order_auroc(rounded, positive) == pytest.approx(order_auroc(4 * rounded + round(constant), positive))


def test_right_and_wrong_within_questions_and_over_them() -> None:
    """Questions with many right answers have high scores; within each, the wrong one scores higher."""
    scores = np.array([5.0, 5.1, 6.0, 1.0, 0.0, -1.0])
    correct = [True, True, False, True, False, False]
    found = right_and_wrong(scores, correct, ["a", "a", "a", "b", "b", "b"])
    assert (found.traces, found.right, found.majority) == (6, 3, 0.5)
    assert found.auroc == pytest.approx(roc_auc_score(correct, scores))
    assert found.auroc_within == pytest.approx(2 / 4)
    shifted = right_and_wrong(scores - 100.0, correct, ["a", "a", "a", "b", "b", "b"])
    assert shifted == found, "a constant says nothing"


def test_a_threshold_is_fitted_to_other_questions() -> None:
    """Perfect scores with an offset: nothing is known at 0, everything at the fitted threshold."""
    scores = np.array([101.0, 100.0] * 20)
    correct = [True, False] * 20
    questions = [str(n // 2) for n in range(40)]
    assert right_and_wrong(scores, correct, questions).accuracy == 1.0
    random = np.random.default_rng(0).normal(size=2000)
    alone = right_and_wrong(random, [n % 2 == 0 for n in range(2000)], [str(n // 2) for n in range(2000)])
    assert alone.accuracy == pytest.approx(0.5, abs=0.05), "fitted to the half that it is measured on it would gain"
    apart = right_and_wrong(np.array([1.0, 0.0, 11.0, 10.0]), [True, False, True, False], ["a", "a", "b", "b"])
    assert apart.accuracy == 0.5, "the threshold of one question, 0.5 or 10.5, says nothing of the other"
    assert right_and_wrong(scores[:2], correct[:2], ["a", "a"]).accuracy is None


def test_without_both_classes_there_is_no_order() -> None:
    found = right_and_wrong(np.array([1.0, 2.0]), [True, True], ["a", "b"])
    assert (found.auroc, found.auroc_within, found.majority) == (None, None, 1.0)
