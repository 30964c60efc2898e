"""P(True), the mean over statements and the composite: closed forms and what must hold of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlsf.judging import JudgeConfig, Judgement
from rlsf.judging.judgement import Said, composite, statement_mean

PROBABILITY = st.floats(0, 1)
SAID = st.tuples(PROBABILITY, PROBABILITY).map(lambda pair: Said(pair[0] / 2, pair[1] / 2))


def of_logits(true: float, false: float, others: float) -> Said:
    """The two words among others whose logits' exponentials sum to ``others``."""
    total = math.exp(true) + math.exp(false) + others
    return Said(math.exp(true) / total, math.exp(false) / total)


@pytest.mark.parametrize("others", [0.0, 1.0, 1e6])
def test_logits_two_and_zero(others: float) -> None:
    said = of_logits(2.0, 0.0, others)
    assert said.confidence() == pytest.approx(0.880797, abs=1e-6)
    assert said.confidence("raw") == pytest.approx(math.exp(2) / (math.exp(2) + 1 + others))


def test_composite_of_the_card() -> None:
    judgement = Judgement((of_logits(2.0, 0.0, 3.0),), Said(0.45, 0.05))
    assert judgement.confidence("reasoning") == pytest.approx(0.880797, abs=1e-6)
    assert judgement.confidence("answer") == pytest.approx(0.9)
    assert judgement.confidence("composite") == pytest.approx(0.792717, abs=1e-6)
    assert judgement.confidence("composite", "raw") == pytest.approx(0.45 * math.exp(2) / (math.exp(2) + 4))


def test_statements_have_their_mean_and_not_their_product() -> None:
    assert statement_mean([0.9, 0.6, 0.3]) == pytest.approx(0.6)
    judgement = Judgement(tuple(Said(value, 1 - value) for value in (0.9, 0.6, 0.3)))
    assert judgement.confidence("reasoning") == pytest.approx(0.6)


@given(st.lists(SAID, max_size=5), st.none() | SAID, st.sampled_from(["renormalised", "raw"]))
def test_confidences_lie_in_the_unit_interval_and_the_composite_below_its_parts(
    reasoning: list[Said], answer: Said | None, probability: str
) -> None:
    judgement = Judgement(tuple(reasoning), answer)
    parts = [judgement.confidence(kind, probability) for kind in ("reasoning", "answer")]  # type: ignore[arg-type]
    both = judgement.confidence("composite", probability)  # type: ignore[arg-type]
    assert (both is None) == (None in parts)
    for value in (*parts, both):
        assert value is None or 0 <= value <= 1
        assert both is None or value is None or both <= value + 1e-12


@given(SAID)
def test_renormalised_is_never_below_raw(said: Said) -> None:
    renormalised, raw = said.confidence(), said.confidence("raw")
    if renormalised is None or raw is None:
        assert said.true == said.false == 0
    else:
        assert renormalised >= raw - 1e-12


@given(st.lists(PROBABILITY, min_size=1), st.randoms())
def test_a_mean_does_not_depend_on_the_order(values: list[float], random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert statement_mean(values) == statement_mean(shuffled)


def test_what_is_missing_stays_missing() -> None:
    assert Said(0.0, 0.0).confidence() is None
    assert composite(None, 0.5) is None
    assert composite(0.5, None) is None
    assert statement_mean([]) is None
    assert statement_mean([0.5, None]) is None
    assert Judgement().confidence("composite") is None


@pytest.mark.parametrize("words", [("True", "true "), (" ", "False"), ("yes", "YES")])
def test_two_words_that_are_one(words: tuple[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"judge\.true_word"):
        JudgeConfig(true_word=words[0], false_word=words[1])
