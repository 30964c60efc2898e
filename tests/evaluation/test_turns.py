"""Votes over the turns of a dialogue, accuracy turn by turn, and answers that flip."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_decoding_modes import QUESTION, equal, traces

from rlsf.answers.voting import majority
from rlsf.errors import InputError
from rlsf.evaluation import EvaluationConfig, Turns, TurnVerdicts, judge_question, judge_turns, summarise_turns


def verdicts(answers: Sequence[str | None], measured: Sequence[float | None]) -> TurnVerdicts:
    return judge_turns(QUESTION, Turns(traces(*answers), measured), equal)


def test_the_published_vote_and_its_ties() -> None:
    vote = majority(["A", "B", "B", "A", "B"])
    assert vote is not None
    assert vote.answer == "B"
    tied = majority(["A", "B", "B", "A"], [0.2, 0.9, 0.1, 0.4])  # 0.6 to 1.0: the larger summed confidence
    assert tied is not None
    assert tied.answer == "B"
    equal_sums = majority(["B", "A", "A", "B"])  # then the answer that was given first
    assert equal_sums is not None
    assert equal_sums.answer == "B"


def test_verdicts_on_the_turns_of_a_question() -> None:
    assert verdicts(["5", "7", "7", None, "5"], [0.9, 0.3, 0.2, None, 0.8]) == TurnVerdicts(
        right=(False, True, True, False, False), majority=False, weighted=False
    )
    # Two votes of little confidence against one of much.
    assert verdicts(["7", "5", "7"], [0.1, 0.9, 0.2]) == TurnVerdicts((True, False, True), True, False)
    assert verdicts([None, None], [None, None]) == TurnVerdicts((False, False), False, False)
    with pytest.raises(InputError, match="has no gold answer"):
        judge_turns(QUESTION.without_gold(), Turns(traces("7"), [0.5]), equal)


def test_the_mode_of_turns_settles_on_the_vote() -> None:
    config = EvaluationConfig(modes=("greedy", "turns"))
    for weighted, answer, confidence in ((False, "7", 2 / 3), (True, "5", 0.9 / 3)):
        turns = Turns(traces("7", "5", "7"), [0.1, 0.9, 0.2], weighted)
        greedy, voted = judge_question(QUESTION, traces("8"), [0.5], config, equal, turns)
        assert (greedy.mode, greedy.answer) == ("greedy", "8")
        assert (voted.mode, voted.answer, voted.correct) == ("turns", answer, answer == "7")
        assert voted.confidence == pytest.approx(confidence)
    with pytest.raises(InputError, match=r"has no turns: leave turns out of evaluation\.modes"):
        judge_question(QUESTION, traces("8"), [0.5], config, equal)


def test_figures_by_hand() -> None:
    found = summarise_turns(
        [
            TurnVerdicts((False, True, True), True, True),
            TurnVerdicts((True, False, False), False, True),
            TurnVerdicts((True, True, False), True, False),
            TurnVerdicts((False, False, False), False, False),
        ]
    )
    assert found == {
        "questions": 4,
        "turns": 3,
        "accuracy": [0.5, 0.5, 0.25],
        "majority": 0.5,
        "weighted": 0.5,
        "oracle": 0.75,
        "right_to_wrong": [1, 1],
        "wrong_to_right": [1, 0],
    }


@given(st.integers(1, 5).flatmap(lambda k: st.lists(st.tuples(*[st.booleans()] * k), min_size=1, max_size=20)))
def test_flips_account_for_every_change_of_accuracy(rows: list[tuple[bool, ...]]) -> None:
    found = summarise_turns([TurnVerdicts(row, row[0], row[-1]) for row in rows])
    for step in range(found["turns"] - 1):
        change = found["accuracy"][step + 1] - found["accuracy"][step]
        flips = found["wrong_to_right"][step] - found["right_to_wrong"][step]
        assert change * len(rows) == pytest.approx(flips)
    assert found["oracle"] >= max(found["accuracy"])
    assert (found["majority"], found["weighted"]) == (found["accuracy"][0], found["accuracy"][-1])


def test_figures_need_the_same_turns() -> None:
    with pytest.raises(InputError, match=r"2 questions with turns of \[1, 2\]"):
        summarise_turns([TurnVerdicts((True,), True, True), TurnVerdicts((True, False), True, True)])
    with pytest.raises(InputError, match="0 questions"):
        summarise_turns([])
