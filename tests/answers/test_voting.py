"""Classes of answers, the majority and the aggregated path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers import aggregate, group_answers, majority

ANSWERS = st.lists(st.sampled_from(["1", "2", "3", None]), max_size=12)
CONFIDENCES = st.floats(0, 1)


def test_groups_unite_spellings_and_skip_the_unanswered() -> None:
    assert group_answers(["1,234", "B", None, "1234.0", "b)", "2468/2"]) == [[0, 3, 5], [1, 4]]


def test_groups_use_algebra_where_spelling_does_not_decide() -> None:
    assert group_answers(["x+1", "7", "1+x"]) == [[0, 2], [1]]


def test_groups_are_an_equivalence_relation_even_where_sameness_is_not_transitive() -> None:
    # b is near a and c, which are not near each other: all three are one class.
    near = {("a1", "b1"), ("b1", "c1")}
    assert group_answers(["a1", "c1", "b1", "d1"], lambda x, y: tuple(sorted((x, y))) in near) == [[0, 1, 2], [3]]


def test_undecided_pairs_stay_apart() -> None:
    assert group_answers(["x1", "y1"], lambda x, y: None) == [[0], [1]]


def test_aggregated_path_against_the_surest_path() -> None:
    # Paths (A, .9), (B, .5), (B, .45): the surest path says A, the sum .95 > .9 says B (arXiv 2402.10200).
    vote = aggregate(["A", "B", "B"], [0.9, 0.5, 0.45])
    assert vote is not None
    assert (vote.answer, vote.index, vote.members) == ("B", 1, (1, 2))
    assert vote.weight == pytest.approx(0.95)
    assert vote.share == pytest.approx(0.95 / 1.85)


def test_majority() -> None:
    vote = majority(["7", None, "9", "9.0", "7", "9"])
    assert vote is not None
    # 3 of the 5 traces that answer; without confidences the first member stands for them.
    assert (vote.answer, vote.index, vote.members, vote.weight) == ("9", 2, (2, 3, 5), 3.0)
    assert vote.share == pytest.approx(3 / 5)


def test_ties_go_to_confidence_then_to_the_first() -> None:
    surer = majority(["1", "2", "1", "2"], [0.2, 0.9, 0.3, 0.1])
    assert surer is not None
    assert (surer.answer, surer.index) == ("2", 1)
    first = majority(["1", "2"])
    assert first is not None
    assert first.answer == "1"
    tied = aggregate(["1", "2"], [0.5, 0.5])
    assert tied is not None
    assert tied.answer == "1"


def test_traces_without_answer_or_confidence_have_no_say() -> None:
    assert majority([None, None]) is None
    assert aggregate(["1", "2"], [None, None]) is None
    vote = aggregate(["1", "1", "2", None], [None, None, 0.1, 1.0])
    assert vote is not None
    assert (vote.answer, vote.share) == ("2", 1.0)


def test_all_confidences_zero() -> None:
    vote = aggregate(["1", "2"], [0.0, 0.0])
    assert vote is not None
    assert (vote.answer, vote.share) == ("1", 0.0)


@pytest.mark.parametrize("wrong", [float("nan"), -0.1, 1.1])
def test_confidences_are_in_the_unit_interval(wrong) -> None:
    with pytest.raises(ValueError, match="of answer 1 is not in"):
        aggregate(["1", "2"], [0.5, wrong])


def test_one_confidence_for_each_answer() -> None:
    with pytest.raises(ValueError, match="2 answers but 1 confidences"):
        majority(["1", "2"], [0.5])


@given(answers=ANSWERS, data=st.data())
def test_the_winner_has_the_largest_weight(answers, data) -> None:
    confidences = data.draw(st.lists(CONFIDENCES, min_size=len(answers), max_size=len(answers)))
    sums = {a: sum(c for b, c in zip(answers, confidences, strict=True) if b == a) for a in answers if a}
    vote, most = aggregate(answers, confidences), majority(answers, confidences)
    assert (vote is None) == (most is None) == (not sums)
    if vote is not None and most is not None:
        assert vote.weight == pytest.approx(max(sums.values()))
        assert most.weight == max(answers.count(a) for a in sums)
        assert vote.index in vote.members
        assert 0 <= vote.share <= 1


@given(answers=ANSWERS, data=st.data())
def test_groups_partition_the_answered(answers, data) -> None:
    groups = group_answers(answers)
    assert sorted(i for group in groups for i in group) == [i for i, a in enumerate(answers) if a is not None]
    assert all(len({answers[i] for i in group}) == 1 for group in groups)
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
