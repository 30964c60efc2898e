"""What is scored to measure length bias, with scorers that read of prompt and response what each of them may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rlsf.models
import rlsf.scoring.reward_scores
from rlsf.evaluation.length_bias import LengthBias
from rlsf.pipeline.conditioning import numbers_of_pairs
from rlsf.pipeline.length_bias import measure_length_bias
from rlsf.preferences import PREFERENCE_SCHEMA
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.preferences.length_instructions import LengthLimit

CONFIG = LengthConditioningConfig(minimum_words=2)
KINDS = {"at_most": 1, "at_least": 2}
LONGER, CHOSEN, REJECTED = 6, 7, 8
#: Kind of limit (0: none), number, side, words of the response.
Scorer = Callable[[int, int, int, int], float]


def limited(_: str, limit: LengthLimit) -> tuple[str, tuple[int, ...]]:
    return "", (KINDS[limit.kind], limit.words, LONGER)


def pairs(lengths: Sequence[tuple[int, int]]) -> pa.Table:
    """Prompts of two ids, or three with a limit: its kind and number first. Responses: an id a word, by the side."""
    rows = [
        {
            "prompt_id": str(number),
            "prompt_ids": [0, 0],
            **{f"{side}_trace_id": f"{number}/{side}" for side in ("chosen", "rejected")},
            **{"chosen": "c " * chosen, "chosen_ids": [CHOSEN] * chosen},
            **{"rejected": "r " * rejected, "rejected_ids": [REJECTED] * rejected},
        }
        for number, (chosen, rejected) in enumerate(lengths)
    ]
    return pa.Table.from_pylist(rows, schema=PREFERENCE_SCHEMA)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LengthBias]:
    """A function from a scorer and lengths of pairs to what is measured of it."""

    def measure(scorer: Scorer, lengths: Sequence[tuple[int, int]], context: int | None = None) -> LengthBias:
        def scores(_: Any, sequences: Sequence[Sequence[int]]) -> list[float]:
            assert len({*sequences}) == len(sequences), "a sequence is scored once"
            assert context is None or max(map(len, sequences)) <= context
            return [
                scorer(kind, number, rest[-1], sum(id_ != LONGER for id_ in rest)) for kind, number, *rest in sequences
            ]

        monkeypatch.setattr(rlsf.scoring.reward_scores, "reward_scores", scores)
        monkeypatch.setattr(rlsf.models, "context_length", lambda _: context)
        model: Any = None
        return measure_length_bias(model, pairs(lengths), CONFIG, limited, numbers_of_pairs(0), resamples=1)

    return measure


def shares(found: LengthBias) -> list[float | None]:
    names = (found.length_accuracy, found.limit_accuracy, found.trained_accuracy)
    return [share and share.accuracy for share in names]


def kept(kind: int, number: int, words: int) -> bool:
    return words <= number if kind == KINDS["at_most"] else words >= number


LENGTHS = [(20, 6), (7, 15), (30, 9)]
words = st.integers(2, 40)
many = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_who_reads_limits_has_all(measured: Callable[..., LengthBias]) -> None:
    found = measured(lambda kind, number, _, words: (2.0 * kept(kind, number, words) - 1) * bool(kind), LENGTHS)
    assert shares(found) == [1.0, 1.0, 1.0]
    assert found.limit_accuracy is not None
    assert found.limit_accuracy.pairs == 4 * 2 * len(LENGTHS)


def test_a_limit_as_a_sign_of_a_better_or_worse_response_is_not_read(measured: Callable[..., LengthBias]) -> None:
    """All that training asks for, and neither number nor kind is looked at."""
    found = measured(lambda kind, _, side, words: 0.1 * words + bool(kind) * (-1 if side == CHOSEN else 1), LENGTHS)
    assert shares(found)[1:] == [0.5, 1.0]


@many
@given(st.lists(st.tuples(words, words), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_whatever_is_made_of_a_limit_without_its_number_is_chance(
    measured: Callable[..., LengthBias], lengths: list[tuple[int, int]], numbers: Any
) -> None:
    made: dict[tuple[int, int, int], float] = {}

    def scorer(kind: int, _: int, side: int, words: int) -> float:
        return made.setdefault((kind, side, words), numbers.choice([-1.0, 0.0, 1.0, numbers.random()]))

    assert shares(measured(scorer, lengths))[1] == pytest.approx(0.5)


@many
@given(st.lists(st.tuples(words, words), min_size=1, max_size=6), st.sampled_from([-1, 1]), st.integers(1, 60))
def test_the_number_without_the_kind_is_chance(
    measured: Callable[..., LengthBias], lengths: list[tuple[int, int]], sign: int, middle: int
) -> None:
    found = measured(lambda kind, number, *_: sign * (number - middle) * bool(kind), lengths)
    assert shares(found)[1] == pytest.approx(0.5)


def test_what_a_limit_makes_too_long_is_left_out_with_its_balance(measured: Callable[..., LengthBias]) -> None:
    """With their prompts 22 and 8 ids, under a limit 23 and 9."""
    for context, expected, around in ((23, [0.5, 0.5, 0.5], 8), (22, [None, 0.5, None], 4)):
        found = measured(lambda *_: 0.0, [(20, 6)], context=context)
        assert (found.pairs, shares(found)) == (1, expected)
        assert found.limit_accuracy is not None
        assert found.limit_accuracy.pairs == around
