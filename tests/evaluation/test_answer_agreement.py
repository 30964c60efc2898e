"""Agreement with an earlier answer, the label-free measure of progress."""

from __future__ import annotations

import pytest

from rlsf.errors import InputError
from rlsf.evaluation import agreement


def test_share_of_equal_answers():
    assert agreement(["7", "8", None, "9"], ["7", "7", "7", None]) == pytest.approx(1 / 4)


def test_two_missing_answers_do_not_agree():
    assert agreement([None], [None]) == 0.0


def test_equivalence_is_the_callers_and_undecided_is_no_agreement():
    verdict = {("0.5", "1/2"): True, ("x", "y"): None}
    assert agreement(["0.5", "x"], ["1/2", "y"], lambda a, b: verdict[a, b]) == pytest.approx(1 / 2)


def test_unusable_input_is_refused():
    with pytest.raises(InputError, match="0 answers and 0 targets"):
        agreement([], [])
    with pytest.raises(InputError, match="1 answers and 2 targets"):
        agreement(["7"], ["7", "8"])
