"""Dialogues and their attempts: what a turn sees, what an attempt earns, and which turns are learned."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlsf.introspection.attempts import (
    Attempt,
    best_attempt,
    confidence_reward,
    gold_reward,
    learned_turns,
    usable,
    without_duplicates,
)
from rlsf.introspection.config import FEEDBACK, IntrospectionConfig
from rlsf.introspection.dialogue import next_turn, reply
from rlsf.prompts import Prompt, Turn
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace
from rlsf.training.reward_weights import reward_weights

QUESTION = Prompt("1", r"How many in \boxed{x}?", gold="3")
WRONG, RIGHT = gold_reward(False), gold_reward(True)
RULES: tuple[Literal["all", "better", "best", "success"], ...] = ("all", "better", "best", "success")


def attempt(
    reward: float = 0.0,
    ids: list[int] | None = None,
    text: str = "5",
    prompt: tuple[int, ...] = (1, 2),
    cut: bool = False,
) -> Attempt:
    token_ids = np.asarray([3, 4] if ids is None else ids, dtype=np.int32)
    trace = Trace(
        prompt_id="1",
        index=0,
        strategy="sampling",
        prompt_token_ids=np.asarray(prompt, dtype=np.int32),
        token_ids=token_ids,
        text=text,
        finish_reason="length" if cut else "eos",
        statistics=TokenStatistics.missing(len(token_ids), 10),
    )
    return Attempt(trace, reward, 1)


# What a turn sees


def test_the_reply_repeats_the_question_and_its_options() -> None:
    assert reply(QUESTION, "No. {question} {x}") == r"No. How many in \boxed{x}? {x}"
    assert reply(Prompt("1", "Which?", ("red", "{question}")), "{question}") == "Which?\n(A) red\n(B) {question}"
    assert reply(QUESTION, "Again.") == "Again."
    assert "{question}" in FEEDBACK


def test_a_turn_sees_the_last_answers_and_the_same_words_after_each() -> None:
    seen = next_turn(QUESTION, ["1", "2", "3"], "Again.", 2, lambda _: True)
    assert seen.turns == (Turn("2", "Again."), Turn("3", "Again."))
    assert (seen.id, seen.question, seen.gold) == (QUESTION.id, QUESTION.question, QUESTION.gold)
    assert next_turn(QUESTION, [], "Again.", 2, lambda _: False) == QUESTION


@given(st.lists(st.text(max_size=3), max_size=6), st.integers(1, 8), st.integers(0, 6))
def test_the_oldest_answers_go_first_where_they_do_not_fit(answers: list[str], window: int, room: int) -> None:
    seen = next_turn(QUESTION, answers, "Again.", window, lambda prompt: len(prompt.turns) <= room)
    kept = min(len(answers), window, room)
    assert [turn.answer for turn in seen.turns] == answers[len(answers) - kept :]


# What an attempt earns


def test_rewards_and_their_published_weights() -> None:
    earned = [gold_reward(True), gold_reward(False), gold_reward(None)]
    assert earned == [1.0, 0.0, -1.0]
    assert reward_weights(earned, 0.4) == pytest.approx([12.182494, 1.0, 0.082085], abs=5e-7)
    assert [confidence_reward(0.7), confidence_reward(None)] == [0.7, 0.0]


def test_attempts_that_repeat_themselves_or_were_cut_are_not_used() -> None:
    circling = attempt(ids=[3, 4] * 10)
    assert not usable(circling.trace, 0.5)
    assert usable(attempt(ids=list(range(20))).trace, 0.5)
    assert not usable(attempt(cut=True).trace, 0.5)
    assert best_attempt([attempt(0.2), attempt(0.9, cut=True), attempt(0.4)], 0.5).reward == 0.4  # type: ignore[union-attr]
    assert best_attempt([circling], 0.5) is None
    first, second = attempt(0.4), attempt(0.4)
    assert best_attempt([first, second], 0.5) is first


# Which turns are learned


@pytest.mark.parametrize(("rule", "count"), zip(RULES, (2, 2, 2, 1), strict=True))
def test_a_wrong_then_a_right_turn(rule: Literal["all", "better", "best", "success"], count: int) -> None:
    assert len(learned_turns([WRONG, RIGHT], rule, 1.0)) == count


@pytest.mark.parametrize("rule", RULES)
def test_a_right_first_turn_is_learned_alone(rule: Literal["all", "better", "best", "success"]) -> None:
    assert learned_turns([RIGHT], rule, 1.0) == [0]


def test_rules_part_where_a_turn_gets_worse() -> None:
    rewards = [0.2, 0.5, 0.4, 0.45, 0.5, 0.95]
    assert learned_turns(rewards, "all", 0.9) == [0, 1, 2, 3, 4, 5]
    assert learned_turns(rewards, "better", 0.9) == [0, 1, 3, 4, 5]
    assert learned_turns(rewards, "best", 0.9) == [0, 1, 4, 5]
    assert learned_turns(rewards, "success", 0.9) == [5]
    assert learned_turns([WRONG, WRONG], "success", 1.0) == []


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.floats(-1, 1))
def test_rules_keep_turns_of_all_and_the_first(rewards: list[float], success: float) -> None:
    for rule in RULES:
        kept = learned_turns(rewards, rule, success)
        assert kept == sorted(set(kept))
        assert set(kept) <= set(range(len(rewards)))
        assert rule == "success" or kept[0] == 0
    # The first of the largest rewards is no worse than any before it.
    assert rewards.index(max(rewards)) in learned_turns(rewards, "best", success)


def test_the_same_tokens_after_the_same_dialogue_are_one_example() -> None:
    first, same, elsewhere, other = attempt(), attempt(), attempt(prompt=(1, 2, 9)), attempt(ids=[3, 5])
    assert list(without_duplicates([first, same, elsewhere, other, attempt(text=" \n")])) == [first, elsewhere, other]


def test_options() -> None:
    with pytest.raises(ValidationError, match=r"introspection\.feedback is empty"):
        IntrospectionConfig(feedback=" ")
    with pytest.raises(ValidationError, match="at least 1 item"):
        IntrospectionConfig(samples=())
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        IntrospectionConfig(samples=(1, 0))
