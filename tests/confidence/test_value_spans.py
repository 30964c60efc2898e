"""Which tokens carry values, and what ``trace_confidence`` makes of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces_of_distributions import trace_of

from rlsf.confidence import get_signal
from rlsf.confidence.values import value_spans


def values(pieces: Sequence[str], answer: str) -> list[str]:
    """The texts of the values; ``answer`` is the last run of tokens that reads like it."""
    runs = [
        (first, last)
        for last in range(len(pieces), 0, -1)
        for first in range(last)
        if "".join(pieces[first:last]).strip() == answer
    ]
    return ["".join(pieces[first:last]).strip() for first, last in value_spans(pieces, runs[0])]


def tokens(text: str) -> list[str]:
    """Words with the space before them, single digits, single signs."""
    return re.findall(r"\s?[A-Za-z]+|\s?[0-9]|\s?[^A-Za-z0-9\s]|\s", text)


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        (" First, 23 + 15 = 38. So the answer is 38.", "38", ["23", "+", "15", "38", "38"]),
        (" First, 23+15 = 38. 38 - 9 = 29.", "29", ["23", "+", "15", "38", "38", "-", "9", "29"]),
        (" It is 47.", "47", ["47"]),
        ("47.", "47", ["47"]),
        (" The answer is (B).", "B", ["B"]),
        (" 4 * (2 + 6) = 32. So it is (B).", "B", ["*", "2", "+", "6", "32", "B"]),
        (" We pay $1,250.50 - 3 = 1,247.50.", "1,247.50", ["1,250.50", "-", "3", "1,247.50"]),
        (" Of 10 years, - well-known - we take 2.", "2", ["10", "2"]),
        (" Fish live in water. So the answer is (B).", "B", ["live", "in", "water", "B"]),
        (" Fish live in water.\nHence B\nas said.", "B", ["live", "in", "water", "as", "said", "B"]),
    ],
)
def test_values_of_a_text(text: str, answer: str, expected: list[str]) -> None:
    assert sorted(values(tokens(text), answer)) == sorted(expected)


def test_the_first_token_counts_only_within_the_answer() -> None:
    # CoT-decoding starts branches with digits too: 5 is imposed, its continuation 1 is not
    assert value_spans(["5", "1", " +", " 2", " =", " 5", "3"], (5, 7)) == [(1, 2), (2, 3), (3, 4), (5, 7)]
    assert value_spans(["5", "3"], (0, 2)) == [(0, 2)]


def test_one_number_is_one_value_in_any_tokenisation() -> None:
    whole = value_spans([" so", " 1250", " +", " 30", " =", " 1280", "."], (5, 6))
    cut = value_spans([" so", " 1", "2", "5", "0", " +", " 3", "0", " =", " 1", "28", "0", "."], (9, 12))
    assert whole == [(1, 2), (2, 3), (3, 4), (5, 6)]
    assert cut == [(1, 5), (5, 6), (6, 8), (9, 12)]


PIECES = st.lists(
    st.sampled_from([" so", " 1", "2", "37", " +", " -", "-", " =", ".", ",", " B", "(", ")", "\n", "", " 3.5", "é"]),
    min_size=1,
    max_size=14,
)


@given(PIECES, st.data())
def test_values_are_ranges_apart_from_the_answer(pieces: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(pieces) - 1))
    answer = (start, data.draw(st.integers(start + 1, len(pieces))))
    spans = value_spans(pieces, answer)
    assert spans == sorted(set(spans))
    assert spans.count(answer) == 1
    for first, last in spans:
        assert 0 <= first < last <= len(pieces)
        assert (first, last) == answer or last <= answer[0] or first >= answer[1]


def distribution(probability: float) -> list[float]:
    """Of two tokens; the first has ``probability``."""
    return [probability, 1.0 - probability]


def confidence(pieces: Sequence[str], probabilities: Sequence[float], answer: tuple[int, int]) -> float:
    trace = trace_of([distribution(probability) for probability in probabilities], [0] * len(pieces), answer)
    measured = get_signal("trace_confidence").confidence(trace, pieces)
    assert measured is not None
    return measured


def test_the_least_sure_value_up_to_ten() -> None:
    pieces = [" so", " 2", "3", " +", " 4", " =", " 2", "7", ".", " 2", "7"]
    probabilities = [0.1, 0.9, 0.8, 0.95, 0.7, 0.2, 0.5, 0.6, 0.3, 0.99, 0.98]
    # values: 23 (.9 x .8 = .72), + (.95), 4 (.7), 27 (.5 x .6 = .3), the answer 27 (.99 x .98); the words do not count
    assert confidence(pieces, probabilities, (9, 11)) == pytest.approx(0.3, rel=1e-5)


def test_the_mean_of_the_least_sure_tenth_of_more_than_ten() -> None:
    # eleven values, ceil(11 / 10) = 2 of them: sqrt(.3 x .7)
    pieces = [" so", *(f" {number}" for number in range(11))]
    probabilities = [0.1, 0.9, 0.8, 0.3, *[0.95] * 5, 0.7, 0.9, 0.99]
    assert confidence(pieces, probabilities, (11, 12)) == pytest.approx(math.sqrt(0.3 * 0.7), rel=1e-5)


def test_a_copied_answer_does_not_hide_a_doubtful_result() -> None:
    pieces = [" so", " 2", " +", " 3", " =", " 6", ".", " The", " answer", " is", " 6"]
    sure = [0.5, *[0.99] * 10]
    doubtful = [*sure[:5], 0.4, *sure[6:]]
    answer = (10, 11)
    for probabilities, expected in ((sure, 0.99), (doubtful, 0.4)):
        trace = trace_of([distribution(p) for p in probabilities], [0] * 11, answer)
        assert get_signal("answer_disparity").confidence(trace) == pytest.approx(0.98, rel=1e-5)
        assert confidence(pieces, probabilities, answer) == pytest.approx(expected, rel=1e-5)


def test_a_guess_after_sure_working_is_no_surer_than_a_bare_guess() -> None:
    worked = [" so", " 2", " +", " 3", " =", " 5", ".", " Hence", " (", "B", ")"]
    bare = [" It", " is", " (", "B", ")"]
    guessed = confidence(worked, [*[0.99] * 9, 0.25, 0.99], (9, 10))
    assert guessed == pytest.approx(confidence(bare, [0.5, 0.9, 0.9, 0.25, 0.9], (3, 4)), rel=1e-5)


def test_a_bare_answer_is_as_sure_as_its_joint_probability() -> None:
    assert confidence([" It", " is", " 4", "7", "."], [0.3, 0.9, 0.6, 0.5, 0.9], (2, 4)) == pytest.approx(0.3, rel=1e-5)


def test_does_not_depend_on_how_numbers_are_cut() -> None:
    whole = confidence([" so", " 12", " +", " 3", " =", " 15"], [0.3, 0.42, 0.9, 0.8, 0.9, 0.35], (5, 6))
    cut = confidence([" so", " 1", "2", " +", " 3", " =", " 1", "5"], [0.3, 0.7, 0.6, 0.9, 0.8, 0.9, 0.5, 0.7], (6, 8))
    assert whole == pytest.approx(cut, rel=1e-5)


@given(st.lists(st.floats(0.01, 0.99), min_size=8, max_size=8), st.integers(0, 7), st.floats(0.01, 0.99))
def test_never_falls_when_a_token_becomes_surer(probabilities: list[float], place: int, higher: float) -> None:
    pieces = [" so", " 2", "3", " +", " 4", " =", " 2", "7"]
    raised = list(probabilities)
    raised[place] = max(higher, raised[place])
    assert confidence(pieces, raised, (6, 8)) >= confidence(pieces, probabilities, (6, 8)) - 1e-9
