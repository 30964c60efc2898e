"""The cost curve of a comparison: means over runs at the steps that all have, then the end."""

from __future__ import annotations

import re

import pytest
from comparison_example import example_comparison

from rlsf.evaluation.comparison_schema import CostPoint, MethodSummary
from rlsf.report.comparison_plots import cost_plot, last_learned, mean_way
from rlsf.report.comparison_view import rows


@pytest.fixture(scope="module")
def method() -> MethodSummary:
    return example_comparison().methods[1]


def points(*measured: tuple[int, int, float]) -> tuple[CostPoint, ...]:
    """Points by step, tokens and accuracy; two thirds of the tokens are trained on."""
    return tuple(
        CostPoint(step=step, generated_tokens=tokens // 3, training_tokens=2 * tokens // 3, seconds=1.0, accuracy=right)
        for step, tokens, right in measured
    )


def curved(method: MethodSummary, *curves: tuple[CostPoint, ...]) -> MethodSummary:
    return method.model_copy(update={"curves": dict(enumerate(curves))})


def test_a_line_is_the_mean_at_the_steps_that_all_runs_have(method: MethodSummary) -> None:
    first = points((0, 0, 0.25), (2, 3000, 0.5), (4, 6000, 1.0), (6, 9000, 0.75))
    second = points((0, 0, 0.25), (4, 9000, 0.5), (5, 12000, 0.0), (8, 15000, 0.5))
    assert mean_way(curved(method, first, second)) == [(0, 25), (7.5, 75)]
    assert mean_way(curved(method, first, second, ())) == [(0, 25), (7.5, 75)], "a run without points has no say"
    assert mean_way(curved(method, first)) == [(0, 25), (3, 50), (6, 100)]
    assert mean_way(curved(method, first[-1:], second[-1:])) == []


def test_a_step_kept_before_the_last_is_led_to_by_a_dotted_line(method: MethodSummary) -> None:
    way = ((0, 0, 0.25), (2, 3000, 0.5), (4, 6000, 0.75))
    for end, dotted in (((6, 9000, 1.0), 0), ((4, 6000, 0.5), 1), ((4, 6500, 0.25), 1)):
        shown = example_comparison().model_copy(update={"methods": (curved(method, points(*way, end)),)})
        drawn = cost_plot(rows(shown), "cost")
        assert len(re.findall(r"stroke-dasharray: 1\.2", drawn)) == dotted


def test_what_was_kept_is_not_taken_for_learned_where_runs_end_at_different_steps(method: MethodSummary) -> None:
    first = points((0, 0, 0.25), (2, 3000, 0.125), (2, 3000, 0.25))
    second = points((0, 0, 0.25), (2, 3000, 0.125), (4, 6000, 0.0), (4, 6600, 0.25))
    third = points((0, 0, 0.25), (2, 3000, 0.5), (4, 6000, 1.0))
    assert last_learned(curved(method, first, second)) == (4.8, 6.25)
    assert last_learned(curved(method, first, third)) == (4.5, 56.25)
    assert last_learned(curved(method, third, ())) == (6, 100)
    assert last_learned(curved(method, first[-1:], third[-1:])) == (4.5, 62.5)
