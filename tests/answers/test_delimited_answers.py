"""Boxed, tagged and captured answers."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rlsf.answers import find_answer
from rlsf.answers.config import AnswerConfig
from rlsf.answers.token_text import TokenText


@pytest.fixture
def find(tokenizer_of):
    tokenizer = tokenizer_of("merged_punctuation_bpe")

    def in_text(text: str, choices=(), **settings):
        ids = tokenizer.encode(text, add_special_tokens=False)
        finding = find_answer(TokenText.from_ids(tokenizer, ids), AnswerConfig(**settings), choices)
        if finding.answer is None:
            return finding.failure
        return finding.answer.text, tokenizer.decode(ids[finding.answer.start : finding.answer.end])

    return in_text


@pytest.mark.parametrize(
    ("text", "answer", "written"),
    [
        ("so \\boxed{12} then \\boxed{42}.", "42", "42"),
        ("\\boxed{\\frac{1}{2}}", "1/2", "\\frac{1}{2}"),
        ("\\boxed{ x^{2} + 1 }", "x^{2} + 1", "x^{2} + 1"),
        ("\\boxed{\\boxed{7}}", "7", "7"),
        ("\\fbox{7}", "7", "7"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}", "\\{1, 2\\}"),
        ("\\boxed{42} and \\boxed{4", "42", "42"),
        ("\\boxed{$1,234.50}", "1234.5", "$1,234.50"),
        ("\\boxed{a \\\\ b\\\\}", "a \\\\ b\\\\", "a \\\\ b\\\\"),
        ("\\\\boxed{42}", "42", "42"),
        ("\\boxed{4 \\boxed{12} }", "12", "12"),
        ("} {\\boxed{42} {", "42", "42"),
        ("\\boxed{" * 20_000 + "42}", "42", "42"),
    ],
)
def test_boxed(find, text, answer, written) -> None:
    found, span = find(text, format="boxed")
    assert found == answer
    assert written in span


def test_earliest_box(find) -> None:
    assert find("\\boxed{12} \\boxed{42}", format="boxed", occurrence="earliest")[0] == "12"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>12</answer> no, <answer> 42\n</answer>", "42"),
        ("<ANSWER>B.</ANSWER>", "B"),
        ("<answer> let me <answer>42</answer>", "42"),
        ("<answer>two words</answer> and <answer>open", "two words"),
    ],
)
def test_tag(find, text, answer) -> None:
    assert find(text, format="tag")[0] == answer


def test_another_tag(find) -> None:
    assert find("<answer>1</answer><final>2</final>", format="tag", tag="final")[0] == "2"


def test_regex_takes_group_one_or_the_whole_match(find) -> None:
    assert find("#### 12\n#### 1,234", format="regex", pattern=r"#### (\S+)")[0] == "1234"
    assert find("ok: yes or no", format="regex", pattern="yes|no")[0] == "no"
    # A group that took no part in a match is no answer.
    assert find("a=1 b", format="regex", pattern=r"[ab](?:=(\d))?")[0] == "1"


@pytest.mark.parametrize(
    ("text", "settings", "failure"),
    [
        ("none here", {"format": "number"}, "no number in the trace"),
        ("none here", {}, "no number in the trace"),
        (" \n", {}, "the trace is empty"),
        ("none here", {"format": "choice"}, "no option letter in the trace"),
        ("none here", {"format": "boxed"}, "no \\boxed{...} in the trace"),
        ("\\boxed{12", {"format": "boxed"}, "a \\boxed{ is empty or never closed"),
        ("\\boxed{ }", {"format": "boxed"}, "a \\boxed{ is empty or never closed"),
        ("\\boxed{$ $}", {"format": "boxed"}, "a \\boxed{ is empty or never closed"),
        ("none here", {"format": "tag"}, "no <answer> in the trace"),
        ("<answer>12", {"format": "tag"}, "<answer> is empty or never closed"),
        ("<answer></answer>", {"format": "tag"}, "<answer> is empty or never closed"),
        ("none here", {"format": "regex", "pattern": "[0-9]+"}, "no match of '[0-9]+' in the trace"),
    ],
)
def test_no_answer_has_a_reason(find, text, settings, failure) -> None:
    assert find(text, **settings) == failure


def test_auto_depends_on_the_options(find) -> None:
    assert find("B. 12 apples", format="auto")[0] == "12"
    assert find("B. 12 apples", ("cat", "dog"), format="auto")[0] == "B"
    assert find("nothing", ("cat", "dog"), format="auto") == "no option letter or option text in the trace"


def test_elicited_answers_need_the_model(find) -> None:
    with pytest.raises(ValueError, match="not found in the text of a trace alone"):
        find("12", format="elicited")


def test_a_broken_pattern_is_a_configuration_error() -> None:
    with pytest.raises(ValidationError, match=r"'\(' is not a regular expression"):
        AnswerConfig(format="regex", pattern="(")
    with pytest.raises(ValidationError, match="set both or neither"):
        AnswerConfig(format="regex")
