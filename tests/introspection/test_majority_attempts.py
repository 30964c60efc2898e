"""Turns that are rewarded by majority: which attempts are learned, how much they count, and why there may be none."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_dialogues import attempt

from rlsf.answers import clear_majority
from rlsf.answers.answer import Answer
from rlsf.introspection.attempts import Attempt, majority_rewards, turn_of, without_majority
from rlsf.introspection.config import IntrospectionConfig
from rlsf.recipes import resolve
from rlsf.training.reward_weights import reward_weights


def turn(answers: str, cut: str = "") -> list[Attempt]:
    """Attempts with these answers, one letter each, ``-`` for none; ``cut`` marks those that were cut by an x."""
    said = [None if answer == "-" else answer for answer in answers]
    rewards = majority_rewards(clear_majority(said), len(said))
    attempts = []
    for index, (answer, reward) in enumerate(zip(said, rewards, strict=True)):
        one = attempt(reward, ids=[3, 4, 5 + index], cut=cut[index : index + 1] == "x")
        found = None if answer is None else Answer(answer, 0, 1)
        attempts.append(dataclasses.replace(one, trace=dataclasses.replace(one.trace, index=index, answer=found)))
    return attempts


def shipped(**changes: Any) -> IntrospectionConfig:
    config = resolve("sft-majority").introspection
    assert config is not None
    return config.model_copy(update=changes)


def learned(attempts: list[Attempt], config: IntrospectionConfig) -> list[int]:
    kept = turn_of(attempts, config)
    return [] if kept is None else [one.trace.index for one in kept.examples]


@pytest.mark.parametrize(
    ("answers", "cut", "examples", "reason"),
    [
        ("7787-", "", [0, 1, 3], []),
        ("7787-", "xoooo", [1, 3], []),  # votes, and is not learned
        ("7788-", "", [], ["tied"]),
        ("789", "", [], ["tied"]),
        ("---", "", [], ["unanswered"]),
        ("778", "xxo", [], ["unusable"]),
        ("7--", "", [0], []),
    ],
)
def test_what_is_learned_and_why_not(answers: str, cut: str, examples: list[int], reason: list[str]) -> None:
    attempts, config = turn(answers, cut), shipped()
    assert learned(attempts, config) == examples
    assert without_majority(attempts, config.repetition_limit) == reason


def test_every_example_counts_the_same() -> None:
    training = shipped().training
    assert reward_weights([1.0] * 5, training.tau, normalise=training.normalise_weights) == [1.0] * 5


def test_the_attempts_of_other_rules() -> None:
    attempts = [attempt(reward, ids=[3, index], cut=index == 3) for index, reward in enumerate([0.2, 0.9, 0.4, 1.0])]
    of_all, of_best = (turn_of(attempts, IntrospectionConfig(attempts=which)) for which in ("all", "best"))
    assert of_all is not None
    assert of_best is not None
    assert [one.reward for one in of_all.examples] == [0.2, 0.9, 0.4]
    assert [one.reward for one in of_best.examples] == [0.9]
    assert of_all.best.reward == of_best.best.reward == 0.9
    successes = turn_of(attempts, IntrospectionConfig(attempts="all", select="success", success=0.4))
    assert successes is not None
    assert [one.reward for one in successes.examples] == [0.9, 0.4]
    assert turn_of(attempts[3:], IntrospectionConfig(attempts="all")) is None


@given(st.text("789-", min_size=1, max_size=8), st.data())
def test_the_order_of_attempts_does_not_matter(answers: str, data: st.DataObject) -> None:
    places = data.draw(st.permutations(range(len(answers))))
    cut = data.draw(st.text("xo", min_size=len(answers), max_size=len(answers)))
    one, other = turn(answers, cut), turn("".join(answers[p] for p in places), "".join(cut[p] for p in places))
    config = shipped()
    assert sorted(places[index] for index in learned(other, config)) == learned(one, config)
    limit = config.repetition_limit
    assert without_majority(one, limit) == without_majority(other, limit)
    assert bool(learned(one, config)) != bool(without_majority(one, limit))
