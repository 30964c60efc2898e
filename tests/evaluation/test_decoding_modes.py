"""From the traces of one question to one outcome per decoding mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers import Answer, Grader
from rlsf.confidence import get_signal
from rlsf.errors import InputError
from rlsf.evaluation import EvaluationConfig, Outcome, judge_question, outcomes_to_table, table_to_outcomes
from rlsf.evaluation.modes import NO_CONFIDENCE
from rlsf.evaluation.outcomes import OUTCOME_SCHEMA
from rlsf.evaluation.summary import measure_mode
from rlsf.prompts.prompt import Prompt
from rlsf.tokenstats.statistics import STATISTIC_NAMES, TokenStatistics
from rlsf.traces import Trace

QUESTION = Prompt("q1", "How many?", gold="7")


def trace(index: int, answer: str | None, *, tokens: int = 4, finish: str = "eos", strategy: str = "cot_decoding"):
    columns = {name: np.zeros(tokens, np.int32 if name == "top1_id" else np.float32) for name in STATISTIC_NAMES}
    return Trace(
        prompt_id="q1",
        index=index,
        strategy=strategy,
        prompt_token_ids=np.array([1, 2]),
        token_ids=np.arange(tokens),
        text=f"so {answer}" if answer else "who knows",
        finish_reason=finish,
        statistics=TokenStatistics(**columns, vocabulary_size=10),
        answer=Answer(answer, 1, 2) if answer else None,
        failure=None if answer else "no number in the text",
    )


def traces(*answers: str | None) -> list[Trace]:
    return [trace(index, answer, tokens=index + 3) for index, answer in enumerate(answers)]


def equal(answer: str, gold: str, choices: Sequence[str]) -> bool | None:
    return answer == gold


def judge(answers, measured, grade=equal, **settings) -> dict[str, Outcome]:
    outcomes = judge_question(QUESTION, traces(*answers), measured, EvaluationConfig(**settings), grade)
    return {outcome.mode: outcome for outcome in outcomes}


def test_each_mode_settles_on_its_trace():
    outcomes = judge(["5", "7", "7", "8", "7"], [0.6, 0.5, 0.7, 0.9, 0.1])
    greedy, cot, majority = outcomes["greedy"], outcomes["cot_decoding"], outcomes["majority"]
    assert (greedy.trace_index, greedy.answer, greedy.confidence, greedy.correct) == (0, "5", 0.6, False)
    assert (cot.trace_index, cot.answer, cot.confidence, cot.correct) == (3, "8", 0.9, False)
    # "7" has three votes of five; its surest trace is shown.
    assert (majority.trace_index, majority.answer, majority.confidence, majority.correct) == (2, "7", 0.6, True)
    assert [greedy.tokens, cot.tokens, majority.tokens] == [3, 6, 5]


def test_aggregation_sums_the_confidence_of_an_answer():
    # "7": .5 + .6 = 1.1 beats "8": .9; over four traces its confidence is .275.
    cot = judge(["8", "7", "7", "5"], [0.9, 0.5, 0.6, 0.2], aggregate=True)["cot_decoding"]
    assert (cot.answer, cot.trace_index) == ("7", 2)
    assert cot.confidence == pytest.approx(1.1 / 4)


def test_ties():
    # Equal confidence: the likelier first token. Equal votes: the larger summed confidence. Both equal: the earlier.
    assert judge(["5", "7"], [0.4, 0.4])["cot_decoding"].trace_index == 0
    assert judge(["5", "7"], [0.4, 0.5])["majority"].answer == "7"
    assert judge(["5", "7"], [0.4, 0.4])["majority"].answer == "5"


def test_a_trace_without_an_answer_is_never_preferred_nor_votes():
    outcomes = judge([None, "7", None, None], [None, 0.0, None, 0.8])
    assert outcomes["cot_decoding"].answer == "7"
    assert outcomes["majority"].confidence == pytest.approx(1 / 4)
    greedy = outcomes["greedy"]
    assert (greedy.answer, greedy.confidence, greedy.correct, greedy.graded) == (None, 0.0, False, True)
    assert greedy.failure == "no number in the text"


@pytest.mark.parametrize("mode", ["greedy", "cot_decoding", "majority"])
@pytest.mark.parametrize("aggregate", [False, True])
def test_no_answer_at_all_is_wrong_with_confidence_zero(mode, aggregate):
    outcome = judge([None, None], [None, 0.9], modes=(mode,), aggregate=aggregate)[mode]
    assert (outcome.answer, outcome.confidence, outcome.correct) == (None, 0.0, False)
    assert outcome.failure == "no number in the text"


def test_an_undefined_signal_is_marked_and_loses_to_a_defined_one():
    outcomes = judge(["7", "5"], [None, 0.0])
    assert (outcomes["greedy"].confidence, outcomes["greedy"].failure) == (0.0, NO_CONFIDENCE)
    assert outcomes["greedy"].correct
    assert outcomes["cot_decoding"].answer == "5"
    assert judge(["7", "5"], [None, None])["cot_decoding"].failure == NO_CONFIDENCE


def test_answers_without_a_stated_confidence_are_marked_and_count_as_unsure():
    said = [
        "</think> <answer>7</answer> <confidence>0.25</confidence>",
        "</think> <answer>7</answer> <confidence>sure</confidence>",
        "</think> <answer>7</answer>",
        "who knows <confidence>0.9</confidence>",
    ]
    signal = get_signal("verbalised")
    found = []
    for text, answer in zip(said, ["7", "7", "7", None], strict=True):
        one = replace(trace(0, answer), text=text)
        found += judge_question(QUESTION, [one], [signal.confidence(one)], EvaluationConfig(modes=("greedy",)), equal)
    assert [outcome.confidence for outcome in found] == [0.25, 0.0, 0.0, 0.0]
    assert [outcome.failure for outcome in found] == [None, NO_CONFIDENCE, NO_CONFIDENCE, "no number in the text"]
    assert [outcome.correct for outcome in found] == [True, True, True, False]
    figures = measure_mode([replace(o, prompt_id=str(i)) for i, o in enumerate(found)], EvaluationConfig(), 0).summary
    assert (figures.without_confidence, figures.without_answer, figures.n) == (2, 1, 4)
    # Brier: (.25 - 1)^2 = .5625, twice (0 - 1)^2, and 0 for the wrong one without an answer
    assert figures.brier == pytest.approx((0.5625 + 2) / 4)


def test_a_stated_confidence_is_no_answer_in_whatever_format():
    one = replace(trace(0, "1"), text="<answer>1</answer> no, 5. <confidence>0.7</confidence>")
    question = Prompt("q1", "How much?", gold="0.7")
    assert not judge_question(question, [one], [0.7], EvaluationConfig(), equal)[0].correct_flexible
    assert judge_question(Prompt("q1", "?", gold="5"), [one], [0.7], EvaluationConfig(), equal)[0].correct_flexible


def test_an_undecided_grade_is_wrong_and_marked():
    outcome = judge(["x"], [0.5], grade=lambda answer, gold, choices: None)["greedy"]
    assert (outcome.correct, outcome.graded) == (False, False)


def test_each_answer_is_graded_once_in_the_order_answer_gold():
    asked = []

    def grade(answer: str, gold: str, choices: Sequence[str]) -> bool:
        asked.append((answer, gold))
        return True

    judge(["7", "7", "5"], [0.1, 0.2, 0.9], grade=grade, modes=("greedy", "cot_decoding"))
    assert sorted(asked) == [("5", "7"), ("7", "7")]


def test_equivalent_answers_vote_together_whichever_order_the_grader_needs():
    # "1/2" and "0.5" make two votes of four; the grader accepts them in one order only.
    def grade(answer: str, gold: str, choices: Sequence[str]) -> bool:
        return answer == gold or (answer, gold) == ("0.5", "1/2")

    for answers in (["3", "1/2", "0.5", "4"], ["3", "0.5", "1/2", "4"]):
        majority = judge(answers, [0.1, 0.2, 0.3, 0.9], grade=grade)["majority"]
        assert (majority.trace_index, majority.confidence) == (2, 0.5)


def test_the_grader_of_the_answers_room_fits():
    question = Prompt("q1", "Which?", ("a dog", "an ox"), gold="B")
    with Grader() as grader:
        outcomes = judge_question(question, traces("an ox", "B", "A"), [0.5, 0.6, 0.7], EvaluationConfig(), grader)
    assert [outcome.correct for outcome in outcomes] == [True, False, True]
    assert outcomes[2].confidence == pytest.approx(2 / 3)


def test_strict_and_format_free_correctness_differ():
    wrong_format = judge(["7"], [0.5], grade=lambda answer, gold, choices: False)["greedy"]
    assert (wrong_format.correct, wrong_format.correct_flexible) == (False, True)


def test_truncation_is_kept():
    cut = judge_question(QUESTION, [trace(0, "7", finish="length")], [0.5], EvaluationConfig(), equal)
    assert all(outcome.truncated for outcome in cut)


def test_temperature_samples_hold_no_greedy_trace():
    sampled = [trace(0, "7", strategy="sampling")]
    with pytest.raises(InputError, match=r"no greedy trace.*leave greedy out"):
        judge_question(QUESTION, sampled, [0.5], EvaluationConfig(), equal)
    modes = EvaluationConfig(modes=("majority",))
    assert judge_question(QUESTION, sampled, [0.5], modes, equal)[0].correct
    beside = [*sampled, trace(1, "5", strategy="greedy")]
    assert judge_question(QUESTION, beside, [0.5, 0.4], EvaluationConfig(), equal)[0].answer == "5"


def test_bad_questions_are_refused():
    with pytest.raises(InputError, match="'q1' has no gold answer"):
        judge_question(QUESTION.without_gold(), traces("7"), [0.5], EvaluationConfig(), equal)
    with pytest.raises(InputError, match="0 traces and 0 confidences"):
        judge_question(QUESTION, [], [], EvaluationConfig(), equal)
    with pytest.raises(InputError, match="1 traces and 2 confidences"):
        judge_question(QUESTION, traces("7"), [0.5, 0.5], EvaluationConfig(), equal)
    with pytest.raises(ValueError, match=r"confidence 1\.5 is not in"):
        judge(["7"], [1.5])


@given(
    answers=st.lists(st.sampled_from(["5", "7", "8", None]), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
    aggregate=st.booleans(),
)
def test_every_mode_gives_one_consistent_outcome(answers, seed, aggregate):
    measured = np.random.default_rng(seed).integers(0, 4, len(answers)) / 3
    outcomes = judge(answers, measured.tolist(), aggregate=aggregate)
    assert list(outcomes) == ["greedy", "cot_decoding", "majority"]
    for outcome in outcomes.values():
        assert outcome.answer == answers[outcome.trace_index]
        assert outcome.correct == (outcome.answer == "7")
        assert outcome.correct_flexible >= outcome.correct
        assert 0 <= outcome.confidence <= 1
    found = [answer for answer in answers if answer is not None]
    if found:
        votes = max(found.count(answer) for answer in found)
        assert found.count(outcomes["majority"].answer) == votes
        assert outcomes["majority"].confidence == pytest.approx(votes / len(answers))


def test_outcomes_survive_a_table():
    outcomes = list(judge(["7", None], [0.25, None]).values()) + list(judge([None], [None]).values())
    table = outcomes_to_table(outcomes)
    assert table.schema == OUTCOME_SCHEMA
    assert table_to_outcomes(table) == outcomes
    assert table_to_outcomes(outcomes_to_table([])) == []
