"""The questions themselves, word for word: what a model is shown, and in which order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlsf.judging import Case, JudgeConfig
from rlsf.judging.wording import Questions

CASE = Case(
    prompt_id="q1",
    question=" What is {2} + 2? ",
    choices=("3", "4"),
    reasonings=("First {true}. So 4.\n", "So 3."),
    answers=("4", "3"),
)
TERSE = JudgeConfig(template="terse", true_word=" Yes", false_word="No ")
ASKED = "Q: What is {2} + 2?\n(A) 3\n(B) 4\n"


def test_a_whole_reasoning_stands_after_the_attempts() -> None:
    found = Questions(TERSE, CASE).about_reasoning(1, [1, 0])
    assert found == f"{ASKED}A: So 3.\nA: First {{true}}. So 4.\n\nA: So 3.\nYes or No?"
    assert Questions(TERSE, CASE).about_reasoning(0, []) == f"{ASKED}\nA: First {{true}}. So 4.\nYes or No?"


def test_an_answer_stands_after_its_reasoning() -> None:
    assert Questions(TERSE, CASE).about_answer(1, "{3}") == f"{ASKED}\nA: So 3.\n{{3}}: Yes or No?"


def test_a_statement_stands_after_those_before() -> None:
    questions = Questions(TERSE, CASE)
    assert questions.about_statement("One.\nTwo. ", "Three. ") == f"{ASKED}A: One.\nTwo.\nThree.\nYes or No?"
    assert questions.about_statement("", "One.\n") == f"{ASKED}One.\nYes or No?"


def test_a_question_without_options() -> None:
    assert Questions(TERSE, replace(CASE, choices=())).about_statement("", "One.") == (
        "Q: What is {2} + 2?\nOne.\nYes or No?"
    )


@pytest.mark.parametrize("ask", ["reasoning", "answer", "statement"])
def test_in_sentences_the_same_is_said_in_the_same_order(ask: str) -> None:
    questions = Questions(JudgeConfig(), CASE)
    text = {
        "reasoning": questions.about_reasoning(1, [0, 1]),
        "answer": questions.about_answer(1, "{3}"),
        "statement": questions.about_statement("One.", "Two."),
    }[ask]
    shown = {
        "reasoning": ["Attempt 1:\nFirst {true}. So 4.\n", "Attempt 2:\nSo 3.\n", "selected reasoning:\nSo 3.\n"],
        "answer": ["selected reasoning:\nSo 3.\n", "proposed answer: {3}\n"],
        "statement": ["reasoning so far:\nOne.\n", "selected statement, which comes next:\nTwo.\n"],
    }[ask]
    parts = ["Question:\nWhat is {2} + 2?\n(A) 3\n(B) 4\n", *shown, "Say True or False.\nVerdict:"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.endswith(parts[-1])
    assert all(text.count(part) == 1 for part in parts)
