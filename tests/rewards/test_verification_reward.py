"""RISE's rewards: three levels for solving and grading, verdicts with and without labels, grades and their prompts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.rewards.grading import GRADES, TEMPLATES, GradeForm, GradingPrompt, parse_grade, shortened
from rlsf.rewards.verification import SelfVerification, Verdicts, grade_reward, solve_reward


def boxed(grade: float) -> str:
    return f"The second step fails. \\boxed{{{grade:g}}}"


@pytest.mark.parametrize("target", GRADES)
def test_the_table_of_grade_rewards(target: float) -> None:
    assert grade_reward(target, target) == 1.0
    assert {grade_reward(target, other) for other in GRADES if other != target} == {-0.5}
    assert grade_reward(target, None) == -1.0


def test_solve_rewards() -> None:
    assert [solve_reward(*given) for given in ((True, True), (True, False), (False, False))] == [1.0, -0.5, -1.0]


@pytest.mark.parametrize(
    ("text", "form", "grade"),
    [
        (r"So \boxed{1}", "boxed", 1.0),
        (r"So \boxed{1.0}.", "boxed", 1.0),
        (r"\boxed{-0.5}", "boxed", -0.5),
        (r"\boxed{-1}", "boxed", -1.0),
        (r"\boxed{-1.0}", "boxed", -1.0),
        (r"It says \boxed{1}, but: \boxed{-0.5}", "boxed", -0.5),
        (r"\boxed{-0.5} \boxed{7}", "boxed", None),
        (r"\boxed{0.5}", "boxed", None),
        (r"\boxed{right}", "boxed", None),
        (r"\boxed{-0.5", "boxed", None),
        ("Grade: 1.0", "boxed", None),
        ("Fine.\nGrade: 1.0", "line", 1.0),
        ("Fine.\n**Grade:** -0.5\n", "line", -0.5),
        ("grade: -1\nGrade: 1", "line", 1.0),
        ("Grade: 10", "line", None),
        ("Grade: 1.05", "line", None),
        ("The Grade: 1.0", "line", None),
        ("Grade: 1.0 or so", "line", None),
        (r"\boxed{1}", "line", None),
        ("", "line", None),
    ],
)
def test_stated_grades(text: str, form: GradeForm, grade: float | None) -> None:
    assert parse_grade(text, form) == grade


def test_a_mixed_batch_by_hand() -> None:
    said: list[Any] = ["7", "8", "none", boxed(1), boxed(-0.5), [{"role": "assistant", "content": boxed(-1)}], "good"]
    logged: dict[str, float] = {}
    rewards = SelfVerification()(
        said,
        kind=["solve"] * 3 + ["grade"] * 4,
        verdict=[1.0, -0.5, -1.0] + [None] * 4,
        target=[None] * 3 + [1.0, 1.0, -1.0, -0.5],
        log_metric=logged.__setitem__,
    )
    assert rewards == [1.0, -0.5, -1.0, 1.0, -0.5, 1.0, -1.0]
    confusion = {name: share for name, share in logged.items() if "target" in name}
    assert len(confusion) == 9
    assert {name: share for name, share in confusion.items() if share} == {
        "verification/target_1/stated_1": 0.25,
        "verification/target_1/stated_-0.5": 0.25,
        "verification/target_-1/stated_-1": 0.25,
    }
    assert logged["verification/solve_accuracy"] == pytest.approx(1 / 3)
    assert logged["verification/grade_accuracy"] == 0.5
    assert logged["verification/missing_grades"] == 0.25


@pytest.mark.parametrize("right", [3, 5, 8])
def test_a_constant_grader_earns_a_less_half_of_what_is_wrong(right: int) -> None:
    """a - 0.5 (1 - a) with the share a of right solutions, -0.05 at a = 0.3; the confusion shows one column only."""
    logged: dict[str, float] = {}
    rewards = SelfVerification(form="line")(
        ["Grade: 1.0"] * 10,
        kind=["grade"] * 10,
        verdict=[None] * 10,
        target=[1.0] * right + [-0.5] * (10 - right),
        log_metric=logged.__setitem__,
    )
    share = right / 10
    assert sum(rewards) / 10 == pytest.approx(share - 0.5 * (1 - share))
    assert right != 3 or sum(rewards) / 10 == pytest.approx(-0.05)
    assert {name for name, value in logged.items() if "stated" in name and value} == {
        "verification/target_1/stated_1",
        "verification/target_-0.5/stated_1",
    }
    assert "verification/solve_accuracy" not in logged


SAID = ["It is 7.", "8", "So 8.0", "no idea"]


def test_verdicts_with_gold_answers() -> None:
    verdicts = Verdicts(num_generations=2)
    assert verdicts([{"answer": "7"}] * 2 + [{"answer": "8"}] * 2, SAID) == [1.0, -0.5, 1.0, -1.0]
    options = {"answer": "B", "choices": ["plums", "pears"]}
    assert verdicts([options] * 2, ["The answer is (A).", "pears"]) == [-0.5, 1.0]


def test_verdicts_without_labels() -> None:
    """They need no gold answer and do not look at one; groups stay apart although their prompts are the same."""
    verdicts = Verdicts(num_generations=4, verdict="agreement")
    assert verdicts([{"answer": "7"}] * 4, SAID) == [-0.5, 1.0, 1.0, -1.0]
    assert verdicts([{}] * 8, [*SAID, "1", "2", "2", "8"]) == [-0.5, 1.0, 1.0, -1.0, -0.5, 1.0, 1.0, -0.5]
    assert verdicts([{}] * 4, ["none"] * 4) == [-1.0] * 4


def test_the_format_of_answers_is_the_recipes() -> None:
    assert Verdicts(num_generations=2, answer=AnswerConfig(format="boxed"))(
        [{"answer": "7"}] * 2, [r"\boxed{7}", "7"]
    ) == [1.0, -1.0]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(("form", "closing"), [("boxed", r"\boxed{-0.5}"), ("line", "Grade: -0.5")])
def test_the_prompt_says_everything(template: str, form: GradeForm, closing: str) -> None:
    question, solution = r"What is {solution} of \frac{1}{2}?", "It {form} is {question}."
    text = GradingPrompt(template, form).text(question, solution)
    assert text.count(question) == 1
    assert text.count(solution) == 1
    assert closing in text.splitlines()[-1]
    assert parse_grade(text, form) is None or form == "boxed"


def test_a_template_of_ones_own() -> None:
    assert GradingPrompt("{question}|{solution}").text("q", "s") == "q|s"


def characters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


@given(st.text(max_size=300), st.integers(100, 300))
def test_a_long_solution_is_cut_in_its_middle(solution: str, limit: int) -> None:
    prompt = GradingPrompt("Q: {question}\nR: {solution}\nEnd with a grade.")
    text = "".join(map(chr, prompt.token_ids("1 + 1?", solution, characters, limit)))
    assert len(text) <= limit
    assert text.startswith("Q: 1 + 1?\nR: ")
    assert text.endswith("\nEnd with a grade.")
    whole = prompt.text("1 + 1?", solution)
    assert (text == whole) == (len(whole) <= limit)
    if text != whole:
        assert len(text) > limit - 3, "no more is cut than must be"
        assert "characters left out" in text


@given(st.text(max_size=50), st.integers(0, 60))
def test_what_is_kept_and_what_is_left_out_is_the_solution(solution: str, kept: int) -> None:
    text = shortened(solution, kept)
    if kept >= len(solution):
        assert text == solution
    else:
        head, tail = text.split(f" [... {len(solution) - kept} characters left out ...] ", 1)
        assert len(head) + len(tail) == kept
        assert 0 <= len(head) - len(tail) <= 1
        assert solution.startswith(head)
        assert solution.endswith(tail)


def test_mistakes() -> None:
    with pytest.raises(InputError, match="MixedVerification"):
        SelfVerification()(["7"])
    with pytest.raises(InputError, match=r"kind='grade' with verdict=1\.0 and target=None"):
        SelfVerification()(["7"], kind=["grade"], verdict=[1.0], target=[None])
    with pytest.raises(InputError, match=r"target=0\.3"):
        grade_reward(0.3, 1.0)
    with pytest.raises(InputError, match="prompt 'q9' has no gold answer"):
        Verdicts(num_generations=2)([{"prompt_id": "q9"}] * 2, ["7", "8"])
    with pytest.raises(InputError, match="verdict='votes'"):
        Verdicts(num_generations=2, verdict="votes")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"no \{solution\}"):
        GradingPrompt("{question}")
    with pytest.raises(InputError, match="form='words'"):
        SelfVerification(form="words")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="room for 20"):
        GradingPrompt().token_ids("1 + 1?", "2", characters, 20)
    with pytest.raises(InputError, match=r"'1 \+ 1\?' makes a grading prompt of .* room for 300"):
        GradingPrompt().check_room("1 + 1?", characters, 300)


@given(st.integers(20, 80), st.text(max_size=200))
def test_a_question_that_has_room_has_room_for_every_solution(limit: int, solution: str) -> None:
    prompt = GradingPrompt("{question}|{solution}|!")
    try:
        prompt.check_room("1 + 1?", characters, limit)
    except InputError:
        return
    assert len(prompt.token_ids("1 + 1?", solution, characters, limit)) <= limit
