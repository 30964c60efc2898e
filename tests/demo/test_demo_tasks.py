import ast
import hashlib
import json
import operator
import random
import re
import subprocess
import sys
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsf.answers.config import AnswerConfig
from rlsf.answers.find import find_occurrences
from rlsf.demo.data import write_data
from rlsf.demo.drills import drill
from rlsf.demo.problems import LONG, SHORT, Arithmetic, Holding, draw
from rlsf.demo.solutions import DIRECT_OPENINGS, WORKED_OPENINGS, answer_of, complete, style_of
from rlsf.demo.tasks import LETTERS, Split, generate, split_of

SPLITS = get_args(Split)
COUNT = 400


@pytest.fixture(scope="module", params=[SHORT, LONG], ids=["short", "long"])
def level(request):
    return request.param


@pytest.fixture(scope="module")
def problems(level):
    return {split: generate(split, COUNT, seed=1, level=level) for split in SPLITS}


def every(problems):
    return [problem for split in SPLITS for problem in problems[split]]


_OPERATIONS = {"Add": operator.add, "Sub": operator.sub, "Mult": operator.mul}


def evaluate(expression):
    """A left-to-right reading of ``23+15-7`` by Python's own parser."""
    node = ast.parse(expression.strip(), mode="eval").body

    def value(node):
        if isinstance(node, ast.Constant):
            return node.value
        return _OPERATIONS[type(node.op).__name__](value(node.left), value(node.right))

    return value(node)


def expected_result(problem):
    """The gold number or name worked out again from the canonical form alone."""
    goal, _, sides = problem.arithmetic.canonical.partition(":")
    totals = [evaluate(side) for side in sides.split("|")]
    if goal in ("most", "fewest"):
        pick = max if goal == "most" else min
        assert len(set(totals)) == len(totals)
        return problem.names[totals.index(pick(totals))]
    return str({"value": totals[0], "together": sum(totals), "difference": totals[0] - totals[-1]}[goal])


def test_gold_answers_are_right(problems):
    for problem in every(problems):
        given_answer = problem.choices[LETTERS.index(problem.gold)] if problem.choices else problem.gold
        assert given_answer == expected_result(problem), problem


def test_questions_tell_all_quantities_and_no_other_number(problems):
    for problem in every(problems):
        told = sorted(int(number) for number in re.findall(r"\d+", problem.question))
        assert tuple(told) == problem.arithmetic.quantities, problem


def test_equations_of_worked_solutions_hold_and_end_with_the_gold_answer(problems):
    rng = random.Random(0)
    for problem in every(problems):
        worked = complete(problem, "worked", rng)
        equations = re.findall(r"(\d+ [-+*] \d+) = (\d+)", worked)
        assert len(equations) == len(problem.arithmetic.equations)
        assert all(evaluate(left) == int(right) for left, right in equations), worked
        assert worked.endswith(f" So the answer is {expected_result(problem)}.")
        assert find_occurrences(worked, AnswerConfig(), problem.choices)[-1].answer == problem.gold


def test_direct_answers_hold_nothing_but_the_answer(problems):
    rng = random.Random(0)
    for problem in every(problems):
        direct = complete(problem, "direct", rng)
        assert style_of(direct) == "direct"
        assert direct.endswith(f" {answer_of(problem)}.")
        assert answer_of(problem) == expected_result(problem)
        assert [found.answer for found in find_occurrences(direct, AnswerConfig(), problem.choices)] == [problem.gold]


def test_numbers_stay_small_and_choices_are_distinct(problems, level):
    for problem in every(problems):
        results = [equation.result for equation in problem.arithmetic.equations]
        assert all(0 < result <= level.largest for result in results), problem
        if problem.choices:
            assert len(set(problem.choices)) == len(LETTERS)


def test_gold_letters_are_balanced(problems):
    letters = [problem.gold for problem in every(problems) if problem.choices]
    for letter in LETTERS:
        assert 0.15 < letters.count(letter) / len(letters) < 0.35


def test_openings_start_with_different_words():
    first_words = [opening.split()[0] for opening in DIRECT_OPENINGS | WORKED_OPENINGS]
    assert len(set(first_words)) == len(first_words)
    for openings in (DIRECT_OPENINGS, WORKED_OPENINGS):
        assert sum(openings.values()) == pytest.approx(1.0)


def test_prompts_show_the_options_below_the_question(problems):
    problem = next(problem for problem in problems["test"] if problem.choices)
    first, second, third, fourth = problem.choices
    assert problem.text == f"Q: {problem.question}\n(A) {first}\n(B) {second}\n(C) {third}\n(D) {fourth}\nA:"
    assert problem.prompt.gold == problem.gold
    plain = next(problem for problem in problems["test"] if not problem.choices)
    assert plain.text == f"Q: {plain.question}\nA:"


def test_no_question_of_one_split_occurs_in_another(problems):
    def contents(split, key):
        return {key(problem) for problem in problems[split]}

    for key in (
        lambda problem: problem.question,
        lambda problem: problem.arithmetic.canonical,
        lambda problem: problem.arithmetic.quantities,
    ):
        for one in SPLITS:
            for other in SPLITS:
                assert one == other or not contents(one, key) & contents(other, key)


def test_no_structure_with_the_same_numbers_occurs_twice_in_a_split(problems):
    for split in SPLITS:
        assert len({problem.arithmetic.canonical for problem in problems[split]}) == COUNT
        assert len({problem.id for problem in problems[split]}) == COUNT


def test_the_same_seed_makes_the_same_problems_and_a_longer_list_begins_alike():
    assert generate("test", 30, seed=4) == generate("test", 60, seed=4)[:30]
    assert generate("test", 30, seed=4) != generate("test", 30, seed=5)


def test_problems_do_not_depend_on_the_process():
    """Hash randomisation differs between processes; the questions must not."""
    command = "from rlsf.demo.tasks import generate; print([p.text for p in generate('test', 5)])"
    texts = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert ast.literal_eval(texts) == [problem.text for problem in generate("test", 5)]


def test_drills_are_true_and_none_holds_the_numbers_of_a_held_out_question(level):
    rng = random.Random(0)
    chains = 0
    for _ in range(300):
        for left, right in re.findall(r"([-+*\d ]+) = (\d+)\.", drill(rng, level)):
            assert evaluate(left) == int(right)
            assert 0 < int(right) <= level.largest
            quantities = [int(number) for number in re.findall(r"\d+", left)]
            if len(quantities) > 2:
                chains += 1
                whole = Arithmetic("value", (Holding(quantities[0], tuple(("+", n) for n in quantities[1:])),))
                assert split_of(whole) == "train"
    assert chains > 300


def test_every_question_needs_two_equations_or_more(problems, level):
    """A drill shown in training is therefore never the solution of a held-out question."""
    steps = [len(problem.arithmetic.equations) for problem in every(problems)]
    assert (min(steps), max(steps)) == (2, 4 if level is SHORT else 8)


def test_the_questions_of_the_bundled_model_are_those_it_was_trained_on():
    """Its figures stand for these; a digest, because a change of what is drawn would change all of them."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for problem in generate(split, 200, seed=3):
            digest.update(f"{problem.text}{problem.gold}{problem.arithmetic.canonical}".encode())
    rng = random.Random(1)
    for _ in range(50):
        digest.update(drill(rng).encode())
    assert digest.hexdigest()[:16] == "718060be025b6107"


def test_unknown_split_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown split 'tset': use one of train, validation, self_training, test"):
        generate("tset", 1)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.permutations([23, 15, 7, 40]), st.lists(st.sampled_from("+-"), min_size=3, max_size=3))
def test_the_split_depends_on_the_numbers_alone(numbers, operators):
    """Any order and any signs of the same four numbers land in one split."""
    shuffled = Arithmetic("value", (Holding(numbers[0], tuple(zip(operators, numbers[1:], strict=True))),))
    straight = Arithmetic("together", (Holding(7, (("+", 15),)), Holding(40, (("-", 23),))))
    assert split_of(shuffled) == split_of(straight)


def test_split_shares_are_as_declared():
    rng = random.Random(0)
    drawn = [split_of(draw(rng)) for _ in range(3000)]
    for split, share in (("train", 0.76), ("validation", 0.04), ("self_training", 0.10), ("test", 0.10)):
        assert drawn.count(split) / len(drawn) == pytest.approx(share, abs=0.02)


def test_question_files_hold_answers_only_where_they_may(tmp_path):
    self_training, test = write_data(tmp_path, self_training=40, test=30, seed=3)
    questions = [json.loads(line) for line in self_training.read_text(encoding="utf-8").splitlines()]
    held_out = [json.loads(line) for line in test.read_text(encoding="utf-8").splitlines()]
    assert (len(questions), len(held_out)) == (40, 30)
    assert not any("answer" in record for record in questions)
    for record, problem in zip(held_out, generate("test", 30, seed=3), strict=True):
        assert record["answer"] == problem.gold
        assert tuple(record.get("choices", ())) == problem.choices
    assert any("choices" in record for record in questions)
    assert any("choices" not in record for record in questions)


def test_questions_that_are_there_are_left_alone(tmp_path):
    """A run may be reading them; other questions in their place are written all the same."""
    first = [path.stat().st_mtime_ns for path in write_data(tmp_path, self_training=4, test=3, seed=3)]
    assert [path.stat().st_mtime_ns for path in write_data(tmp_path, self_training=4, test=3, seed=3)] == first
    learned_from, test = write_data(tmp_path, self_training=5, test=3, seed=3)
    assert learned_from.stat().st_mtime_ns != first[0]
    assert test.stat().st_mtime_ns == first[1]
    assert len(learned_from.read_text(encoding="utf-8").splitlines()) == 5


def test_the_package_root_imports_no_torch():
    command = (
        "import sys, rlsf.demo, rlsf.demo.tasks; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout == "[]\n"
