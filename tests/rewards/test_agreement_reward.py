"""Agreement with the majority of a group."""

from __future__ import annotations

from typing import Any

import pytest

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.rewards import MajorityAgreement

COMPLETIONS = ["It is 7.", "So 7.0", "The answer is 8.", "no idea"]


def test_the_majority_by_hand() -> None:
    reward = MajorityAgreement(num_generations=4)
    assert reward(["p"] * 4, COMPLETIONS) == [1.0, 1.0, 0.0, 0.0]
    assert MajorityAgreement(num_generations=4, reward="share")(["p"] * 4, COMPLETIONS) == [0.5, 0.5, 0.25, 0.0]


def test_groups_do_not_mix() -> None:
    """Two prompts, and one that was drawn twice in a row."""
    reward = MajorityAgreement(num_generations=2)
    assert reward(["p", "p", "q", "q"], ["7", "7", "8", "7"]) == [1.0, 1.0, 1.0, 0.0]
    assert reward(["p"] * 4, ["7", "8", "8", "8"]) == [1.0, 0.0, 1.0, 1.0]


def test_messages_and_choices() -> None:
    reward = MajorityAgreement(num_generations=2, answer=AnswerConfig(format="choice"))
    said: list[Any] = [[{"role": "assistant", "content": text}] for text in ("The answer is (B).", "pears")]
    prompt: Any = [{"role": "user", "content": "Which?"}]
    assert reward([prompt, prompt], said, choices=[["plums", "pears"]] * 2) == [1.0, 1.0]


def test_nobody_answers() -> None:
    assert MajorityAgreement(num_generations=2)(["p", "p"], ["none", ""]) == [0.0, 0.0]


def test_mistakes() -> None:
    with pytest.raises(InputError, match="3 completions of a prompt"):
        MajorityAgreement(num_generations=2)(["p"] * 3, ["1"] * 3)
    with pytest.raises(InputError, match="num_generations=1"):
        MajorityAgreement(num_generations=1)
    with pytest.raises(InputError, match="reward='most'"):
        MajorityAgreement(num_generations=2, reward="most")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="elicited"):
        MajorityAgreement(num_generations=2, answer=AnswerConfig(format="elicited"))
