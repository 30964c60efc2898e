"""Length limits and the comparisons made of them: what is kept and broken, what is the same on both sides, seeds."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ranked_traces import trace_for

from rlsf.errors import InputError
from rlsf.preferences import RankingConfig, rank
from rlsf.preferences.conditioned_pairs import CONDITIONED_SCHEMA, ConditioningReport, condition_pairs
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.preferences.length_instructions import LengthLimit, draw_limit, limits_around, limits_between, word_count

CONFIG = LengthConditioningConfig()
shares = st.floats(0.01, 0.99)


@st.composite
def configs(draw: st.DrawFn) -> LengthConditioningConfig:
    below = sorted((draw(shares), draw(shares)))
    above = sorted((1 + draw(shares), 1 + draw(shares)))
    return LengthConditioningConfig(below=(below[0], below[1]), above=(above[0], above[1]), minimum_words=2)


@given(st.integers(2, 400), st.booleans(), st.integers(), configs())
def test_a_limit_is_kept_or_broken_as_asked(
    words: int, kept: bool, seed: int, config: LengthConditioningConfig
) -> None:
    limit = draw_limit(words, config, random.Random(seed), kept=kept)
    assert limit.kept_by(words) == kept
    assert limit.words >= 1


@given(st.integers(10, 400), st.booleans(), st.integers())
def test_limits_lie_in_their_ranges(words: int, kept: bool, seed: int) -> None:
    limit = draw_limit(words, CONFIG, random.Random(seed), kept=kept)
    low, high = (0.5, 0.9) if (limit.kind == "at_most") != kept else (1.1, 1.5)
    assert low * words - 1e-9 <= limit.words <= high * words + 1e-9


def test_ten_words() -> None:
    """Every whole number of the ranges and no other; 1.1 x 10 is 11."""
    drawn: dict[bool, set[tuple[str, int]]] = {True: set(), False: set()}
    for kept, found in drawn.items():
        for seed in range(400):
            limit = draw_limit(10, CONFIG, random.Random(seed), kept=kept)
            found.add((limit.kind, limit.words))
    small, large = range(5, 10), range(11, 16)
    assert drawn[False] == {("at_most", n) for n in small} | {("at_least", n) for n in large}
    assert drawn[True] == {("at_most", n) for n in large} | {("at_least", n) for n in small}


def test_shares_beside_one_leave_the_next_whole_number() -> None:
    """Rounding to whole numbers of words never lands on the length itself, which no limit would part."""
    config = CONFIG.model_copy(update={"below": (1 - 1e-9, 1 - 1e-9), "above": (1 + 1e-9, 1 + 1e-9)})
    for seed in range(20):
        assert {limit.words for limit in limits_around(10, config, random.Random(seed))} == {9, 11}
        assert draw_limit(10, config, random.Random(seed), kept=False).words in (9, 11)


def test_both_kinds_are_as_likely_as_asked() -> None:
    for share in (0.0, 0.5, 1.0):
        config = CONFIG.model_copy(update={"upper_share": share})
        numbers = random.Random(0)
        kinds = Counter(draw_limit(20, config, numbers, kept=False).kind for _ in range(2000))
        assert kinds["at_most"] / 2000 == pytest.approx(share, abs=0.04)


@given(st.integers(2, 400), st.integers(), configs())
def test_limits_around_a_length(words: int, seed: int, config: LengthConditioningConfig) -> None:
    """Two numbers, each under both kinds; neither tells alone whether the limit is kept."""
    limits = limits_around(words, config, random.Random(seed))
    low, high = sorted({limit.words for limit in limits})
    assert low < words < high
    assert {(limit.kind, limit.words): limit.kept_by(words) for limit in limits} == {
        ("at_most", low): False,
        ("at_most", high): True,
        ("at_least", low): True,
        ("at_least", high): False,
    }


def test_limits_around_ten_words_lie_in_the_ranges() -> None:
    drawn = {limit.words for seed in range(200) for limit in limits_around(10, CONFIG, random.Random(seed))}
    assert drawn == {*range(5, 10), *range(11, 16)}


@given(st.integers(0, 300), st.integers(1, 300))
def test_limits_between_two_lengths(shorter: int, more: int) -> None:
    longer = shorter + more
    upper, lower = limits_between(shorter, longer)
    assert (upper.kept_by(shorter), upper.kept_by(longer)) == (True, False)
    assert (lower.kept_by(shorter), lower.kept_by(longer)) == (False, True)


def test_the_wording() -> None:
    question = "Why is {words} of {x} 7?"
    assert LengthLimit("at_most", 12).asked_of(question, CONFIG) == f"Use at most 12 words.\n\n{question}"
    assert LengthLimit("at_least", 3).asked_of(question, CONFIG) == f"Use at least 3 words.\n\n{question}"
    config = LengthConditioningConfig(at_most="{question} ({words} words or fewer)")
    assert LengthLimit("at_most", 12).asked_of(question, config) == f"{question} (12 words or fewer)"
    with pytest.raises(ValidationError, match=r"must hold \{question\} and \{words\}"):
        LengthConditioningConfig(at_most="Be short. {question}")


def test_words_are_what_white_space_parts() -> None:
    assert word_count("  23 + 15 = 38.\nSo it is 38. ") == 9
    assert word_count(" \n") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"below": (0.5, 1.0)}, r"below=\[0.5, 1.0\]"),
        ({"above": (1.5, 1.1)}, "above"),
        ({"minimum_words": 1}, "minimum"),
    ],
)
def test_ranges_must_be_on_their_sides(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LengthConditioningConfig(**options)


def test_refusals() -> None:
    with pytest.raises(InputError, match="a response of 1 words breaks no upper limit"):
        draw_limit(1, CONFIG, random.Random(0), kept=False)
    with pytest.raises(InputError, match="a response of 0 words breaks no upper limit"):
        limits_around(0, CONFIG, random.Random(0))
    with pytest.raises(InputError, match="no limit parts responses of 4 and 4 words"):
        limits_between(4, 4)


def conditioned(lengths: list[tuple[int, int]], **options: Any) -> tuple[list[dict[str, Any]], ConditioningReport]:
    """Rows of pairs whose responses have so many words; a limit enters the prompt as two tokens."""
    groups, confidences = [], []
    for number, (chosen, rejected) in enumerate(lengths):
        traces = [trace_for(index, prompt_id=f"p{number}") for index in range(2)]
        groups.append([replace(traces[0], text="c " * chosen), replace(traces[1], text="r " * rejected)])
        confidences.append([0.95, 0.2])
    texts = {f"p{number}": f"question {number}" for number in range(len(lengths))}
    pairs, _ = rank(groups, confidences, RankingConfig(), texts)

    def limited(prompt_id: str, limit: LengthLimit) -> tuple[str, list[int]]:
        return f"{limit.kind} {limit.words} {texts[prompt_id]}", [limit.words, 1, 5]

    table, report = condition_pairs(
        pairs, LengthConditioningConfig(**options), limited, lambda *ids: random.Random("/".join(ids))
    )
    assert table.schema.equals(CONDITIONED_SCHEMA)
    return table.to_pylist(), report


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=6))
def test_comparisons(lengths: list[tuple[int, int]]) -> None:
    """The response breaks x1's limit or keeps x2's and is the same on both sides; the other prompt is the pair's."""
    rows, report = conditioned(lengths, minimum_words=5, rejected_weight=0.25)
    long_enough = [number for number, pair in enumerate(lengths) if min(pair) >= 5]
    assert (report.pairs, report.too_short) == (len(lengths), len(lengths) - len(long_enough))
    assert report.comparisons == 2 * len(long_enough) == len(rows) - len(lengths)
    assert report.longer_chosen == sum(chosen > rejected for chosen, rejected in lengths)
    assert report.shorter_chosen == sum(chosen < rejected for chosen, rejected in lengths)
    for row in rows:
        own = f"question {row['prompt_id'][1:]}"
        if row["part"] == "ordinary":
            assert (row["prompt"], row["rejected_prompt"], row["prompt_ids"]) == (own, own, row["rejected_prompt_ids"])
            assert (row["chosen_ids"], row["limit_words"], row["weight"]) == ([10, 3, 2], None, 1.0)
            assert row["margin"] > 1
            continue
        limit = LengthLimit(row["limit_kind"], row["limit_words"])
        assert limit.kept_by(word_count(row["chosen"])) == (row["part"] == "rejected")
        for what in ("", "_ids", "_trace_id", "_confidence"):
            assert row[f"chosen{what}"] == row[f"rejected{what}"]
        assert row["chosen_trace_id"] == f"{row['prompt_id']}#{int(row['part'] == 'rejected')}"
        sides = [(row["prompt"], row["prompt_ids"]), (row["rejected_prompt"], row["rejected_prompt_ids"])]
        plain, with_limit = sides if row["part"] == "chosen" else reversed(sides)
        assert plain == (own, [1, 5])
        assert with_limit == (f"{limit.kind} {limit.words} {own}", [limit.words, 1, 5])
        assert (row["margin"], row["weight"]) == (0.0, 0.25 if row["part"] == "rejected" else 1.0)


def test_three_times_the_pairs_one_after_the_other() -> None:
    rows, report = conditioned([(20, 12), (11, 30)])
    assert [row["part"] for row in rows] == ["ordinary", "chosen", "rejected"] * 2
    assert report == ConditioningReport(pairs=2, too_short=0, comparisons=4, longer_chosen=1, shorter_chosen=1)


def test_limits_belong_to_the_pair_not_to_its_place() -> None:
    rows, _ = conditioned([(20, 12), (11, 30), (40, 35)])
    alone, _ = conditioned([(20, 12)])
    assert rows[:3] == alone
    assert conditioned([(20, 12), (11, 30), (40, 35)])[0] == rows
    assert len({(row["limit_kind"], row["limit_words"]) for row in rows}) > 3
