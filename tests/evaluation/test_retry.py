"""The loop that accepts an attempt or tries again: where it stops, and what it then says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_decoding_modes import QUESTION, equal, traces

from rlsf.errors import InputError
from rlsf.evaluation import EvaluationConfig, Retry, judge_question

ONLY = EvaluationConfig(modes=("retry",))


def outcome_of(retry: Retry):
    (outcome,) = judge_question(QUESTION, traces("8"), [0.5], ONLY, equal, retry=retry)
    return outcome


def test_the_first_attempt_that_reaches_the_threshold_stays() -> None:
    attempts = traces("5", "7", "9")
    for threshold, used, answer, confidence in (
        (0.0, 1, "5", 0.2),
        (0.2, 1, "5", 0.2),
        (0.5, 2, "7", 0.6),
        (0.95, 3, "9", 0.4),
    ):
        retry = Retry(attempts, [0.2, 0.6, 0.4], threshold)
        outcome = outcome_of(retry)
        assert (retry.used, retry.accepted) == (used, threshold < 0.9)
        assert (outcome.answer, outcome.confidence, outcome.trace_index) == (answer, confidence, used - 1)
        assert outcome.correct == (answer == "7")


def test_it_abstains_only_where_nothing_was_accepted() -> None:
    assert outcome_of(Retry(traces("5", "7"), [0.2, 0.6], 0.5, abstain=True)).answer == "7"
    silent = outcome_of(Retry(traces("5", "7"), [0.2, 0.4], 0.5, abstain=True))
    assert (silent.answer, silent.confidence, silent.failure) == (None, 0.0, "none of 2 attempts was accepted")
    assert not silent.correct
    assert not silent.correct_flexible, "the text of a rejected attempt is no answer either"


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=6), threshold=st.floats(0, 1))
def test_all_before_the_last_attempt_are_rejected(scores: list[float], threshold: float) -> None:
    retry = Retry(traces(*["7"] * len(scores)), scores, threshold)
    assert all(score < threshold or score == 0 for score in scores[: retry.used - 1])
    assert retry.accepted or retry.used == len(scores)
    assert retry.accepted == any(score >= threshold and score > 0 for score in scores)


def test_no_threshold_accepts_an_attempt_without_an_answer() -> None:
    retry = Retry(traces(None, "7"), [0.0, 0.2], 0.0)
    assert (retry.used, outcome_of(retry).answer) == (2, "7")


def test_without_attempts_it_is_refused() -> None:
    with pytest.raises(InputError, match=r"has no attempts: leave retry out of evaluation\.modes"):
        judge_question(QUESTION, traces("8"), [0.5], ONLY, equal)
