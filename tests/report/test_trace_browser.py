"""Tokens, shading levels, answer marks and what is left out of a long page."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_example import branch

from rlsf.answers.answer import Answer
from rlsf.report.browser import ANSWER_SURROUNDINGS, END, TRACE_HEAD, TRACE_TAIL, level, panels, visible
from rlsf.report.choice import OUTCOME_NAMES, choose_questions, outcome_counts
from rlsf.report.inputs import BranchSet, BranchView, QuestionView


def _panel(*views: BranchView):
    question = QuestionView("q", "How many?", (BranchSet("before", views),), gold="38")
    return panels([question])[0]


@pytest.mark.parametrize(
    ("sureness", "expected"),
    [(1.0, 0), (0.95, 0), (0.9, 1), (0.5, 5), (0.1, 9), (0.0, 9), (1.2, 0), (-0.3, 9), (float("nan"), 9)],
)
def test_shading_levels(sureness: float, expected: int) -> None:
    assert level(sureness) == expected


def test_levels_and_hover_text_of_a_token() -> None:
    # p = 0.62, four others of 0.095: disparity 0.525; entropy 0.62 ln(1/0.62) + 0.38 ln(1/0.095) = 0.2964 + 0.8945
    # = 1.1909 nats, and 1.1909 / ln 10 = 0.517.
    (segment,) = _panel(branch("q", ("x",), probability=np.array([0.62]))).sides[0].branches[0].segments
    (token,) = segment.tokens
    assert (token.probability_level, token.disparity_level, token.entropy_level) == (3, 4, 5)
    assert token.hover == "p 0.620 · disparity 0.525 · entropy 1.19 nats"


def test_the_answer_span_is_a_segment_of_its_own() -> None:
    pieces = ("The", " answer", " is", " ", "3", "8", ".", "")
    drawn = _panel(branch("q", pieces, answer=Answer("38", 4, 6))).sides[0].branches[0]
    assert [segment.answer for segment in drawn.segments] == [False, True, False]
    assert "".join(token.text for token in drawn.segments[1].tokens) == "38"
    assert "".join(token.text for segment in drawn.segments for token in segment.tokens) == f"The answer is 38.{END}"


def test_whitespace_and_empty_pieces_can_be_seen() -> None:
    assert [visible(piece) for piece in ("\n", "\t", "", " a")] == ["↵\n", "⇥\t", "∅", " a"]
    assert [visible(piece) for piece in ("\0", "a\x1b[31m", "\u202eevil", "שלום")] == [
        "⟨U+0000⟩",
        "a⟨U+001B⟩[31m",
        "⟨U+202E⟩evil",
        "שלום",
    ]


@given(
    st.integers(1, 3 * (TRACE_HEAD + TRACE_TAIL)), st.floats(0, 1, exclude_max=True), st.integers(1, 5), st.booleans()
)
def test_what_is_shown_and_what_is_skipped_add_up(length: int, place: float, width: int, answered: bool) -> None:
    start = int(place * length)
    end = min(length, start + width)
    view = branch("q", tuple(f"<{i}>" for i in range(length)), answer=Answer("x", start, end) if answered else None)
    drawn = _panel(view).sides[0].branches[0]
    places: list[int] = []
    for segment in drawn.segments:
        at = (places[-1] if places else -1) + segment.skipped + 1
        texts = [token.text for token in segment.tokens]
        assert texts == [f"<{i}>" for i in range(at, at + len(texts))]
        assert all((start <= i < end) is segment.answer for i in range(at, at + len(texts))) or not answered
        places += range(at, at + len(texts))
    assert places[-1] == length - 1
    assert len(places) <= TRACE_HEAD + TRACE_TAIL + 2 * ANSWER_SURROUNDINGS + width
    if answered:
        assert set(range(start, end)) <= set(places)
    if length <= TRACE_HEAD + TRACE_TAIL:
        assert places == list(range(length))


def test_the_surest_trace_is_marked_once() -> None:
    views = [
        dataclasses.replace(branch("q", ("a",), index=index), confidence=confidence)
        for index, confidence in enumerate((None, 0.7, 0.9, 0.9))
    ]
    assert [one.surest for one in _panel(*views).sides[0].branches] == [False, False, True, False]
    assert not any(one.surest for one in _panel(views[0]).sides[0].branches)


def test_a_page_is_kept_within_its_budget_and_says_so() -> None:
    views = tuple(branch("q", ("a",) * 100, index=index) for index in range(10))
    question = QuestionView("q", "?", (BranchSet("before", views), BranchSet("after", views)))
    (panel,) = panels([question], budget=650)  # 200 tokens a rank: three ranks fit
    assert [(len(side.branches), side.hidden) for side in panel.sides] == [(3, 7), (3, 7)]
    (least,) = panels([question], budget=10)
    assert [len(side.branches) for side in least.sides] == [1, 1]


def test_a_trace_without_tokens_can_be_shown() -> None:
    drawn = _panel(branch("q", ())).sides[0].branches[0]
    assert (drawn.tokens, drawn.segments, drawn.first_token) == (0, (), "")


def test_pieces_must_match_the_tokens() -> None:
    view = branch("q", ("a", "b"))
    with pytest.raises(ValueError, match="1 text pieces for 2 tokens"):
        BranchView(view.trace, ("a",))


_OUTCOMES = st.dictionaries(st.text(min_size=1, max_size=6), st.sampled_from(list(OUTCOME_NAMES)[:4]), max_size=40)


@given(_OUTCOMES, st.integers(1, 16), st.randoms())
def test_the_choice_is_even_and_independent_of_order(outcomes, count: int, random) -> None:
    chosen = choose_questions(outcomes, count)
    shuffled = list(outcomes.items())
    random.shuffle(shuffled)
    assert choose_questions(dict(shuffled), count) == chosen
    assert len(chosen) == len(set(chosen)) == min(count, len(outcomes))
    taken = {outcome: sum(outcomes[key] == outcome for key in chosen) for outcome in set(outcomes.values())}
    left = {outcome: sum(value == outcome for value in outcomes.values()) - taken[outcome] for outcome in taken}
    for outcome, number in taken.items():
        # A stratum may have fewer than another only where it is used up, or by the one that the count cut off.
        assert all(number >= other - 1 or left[outcome] == 0 for other in taken.values())


def test_outcomes_are_counted_by_name() -> None:
    outcomes = {"a": (False, True), "b": (False, True), "c": (True, False), "d": (None, None)}
    assert outcome_counts(outcomes) == {"wrong, now right": 2, "right, now wrong": 1}
    assert set(choose_questions(outcomes, 12)) == set(outcomes)
