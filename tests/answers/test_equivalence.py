"""Equivalence of answers, and the process that may not hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlsf.answers
from rlsf.answers import Grader, Verdict, equivalent
from rlsf.answers.equivalence import compare_canonical

#: sympy would write out a number of ten billion digits, inside one C call.
ENDLESS = "10^{10^{10^{10}}}"
WORKER = Path(rlsf.answers.__file__).with_name("math_worker.py")


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(time_limit=30) as grader:
        yield grader


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("1234", "1,234", True),
        ("18", "$18", True),
        ("18", "18.00", True),
        ("0.50", "1/2", True),
        ("2/4", "1/2", True),
        ("-3", "3", False),
        ("18", "18 dollars", True),
        ("18", "17 dollars", False),
        ("3", "3 and a half", None),
        ("5", "5 million", None),
        ("5", "5x", None),
        ("0.333333", "1/3", None),
        ("b", "B", True),
        ("(B)", "B", True),
        ("B", "C", False),
        ("B", "5", False),
        ("Paris.", "paris", True),
        ("the cat", "a dog", False),
        ("\\Delta", "\\delta", None),
        ("x+1", "1+x", None),
    ],
)
def test_canonical_comparison_decides_or_passes_on(answer, gold, verdict) -> None:
    assert compare_canonical(answer, gold) is verdict


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("B", "dog", True),
        ("dog", "(b)", True),
        ("cat", "dog", False),
        ("C", "1,200", True),
        ("1200", "A", False),
        ("A", "dog", False),
        ("bird", "dog", False),
    ],
)
def test_letters_stand_for_options(answer, gold, verdict) -> None:
    assert compare_canonical(answer, gold, ("cat", "dog", "1200")) is verdict


def test_huge_numbers_are_compared_as_text() -> None:
    digits = "9" * 6000
    assert compare_canonical(digits, f"{digits}.0") is True
    assert compare_canonical(digits, f"{digits}8") is False
    assert compare_canonical(f"{digits}/7", f"{digits}/14") is None


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("\\sqrt{8}", "2\\sqrt{2}", True),
        ("x+1", "1+x", True),
        ("(x+1)^2", "x^2+2x+1", True),
        ("(1,2)", "(2,1)", False),
        ("{2,1}", "\\{1,2\\}", True),
        ("0.333333", "1/3", True),
        ("0.3", "1/3", False),
        ("3 and a half", "3", False),
        ("\\text{Paris}", "\\frac{1}{2}", False),
    ],
)
def test_algebra(grader, answer, gold, verdict) -> None:
    assert grader.verdict(answer, gold) == Verdict(verdict)
    assert grader(answer, gold) is verdict


def test_symmetric_is_symmetric(grader) -> None:
    pairs = [("5", "x=5"), ("1<x<2", "(1,2)"), ("x+1", "1+x"), ("\\frac{1}{3}", "0.333")]
    for first, second in pairs:
        forth = grader.equivalent(first, second, symmetric=True)
        assert forth is grader.equivalent(second, first, symmetric=True)
        assert forth is (grader.equivalent(first, second) or grader.equivalent(second, first))


def test_what_takes_too_long_is_undecided_with_a_reason() -> None:
    with Grader(time_limit=1) as grader:
        started = time.monotonic()
        assert grader.verdict(ENDLESS, "5") == Verdict(None, "math-verify took more than 1 s")
        # The killed process is replaced: the next pair is decided.
        assert grader.equivalent("x+2", "2+x") is True
        asked_twice = time.monotonic()
        assert grader.equivalent(ENDLESS, "5") is None
        assert time.monotonic() - asked_twice < 0.5, "verdicts are remembered"
        assert asked_twice - started < 60


def test_a_process_that_dies_is_replaced(grader) -> None:
    assert grader.equivalent("x+3", "3+x") is True
    os.kill(grader._process._process.pid, signal.SIGKILL)
    assert grader.verdict("x+4", "4+x") == Verdict(None, "the math-verify process died")
    assert grader.equivalent("x+5", "5+x") is True


def test_any_thread_may_ask(grader) -> None:
    verdicts: list[bool | None] = []
    threads = [
        threading.Thread(target=lambda n=n: verdicts.append(grader.equivalent(f"y+{n}", f"{n}+y"))) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 4


def test_no_process_is_started_for_what_needs_no_algebra() -> None:
    with Grader() as grader:
        assert grader.equivalent("1,234", "1234") is True
        assert grader._process is None


def test_the_shared_grader() -> None:
    assert equivalent("$18", "18") is True
    assert equivalent("B", "pears", ("apples", "pears")) is True


def test_a_time_limit_is_positive() -> None:
    with pytest.raises(ValueError, match="time_limit=0"):
        Grader(time_limit=0)


def start_worker() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-P", str(WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == {"ready": True}
    return process


def test_a_worker_ends_with_its_parent() -> None:
    with start_worker() as process:
        assert process.stdin is not None
        process.stdin.close()  # as the system does for a parent that was killed
        assert process.wait(timeout=30) == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this system")
def test_a_busy_worker_without_a_parent_ends_by_itself() -> None:
    with start_worker() as process:
        assert process.stdin is not None
        request = {"gold": "5", "answer": ENDLESS, "symmetric": False, "time_limit": 0.1}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        assert process.wait(timeout=30) == -signal.SIGALRM


def test_importing_answers_imports_no_algebra() -> None:
    code = (
        "import rlsf.answers, sys; print(sorted({'math_verify', 'sympy', 'torch', 'transformers'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
