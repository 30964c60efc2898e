"""Signals against arithmetic done by hand, and what holds for every signal."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces_of_distributions import trace_of

from rlsf.answers.answer import Answer
from rlsf.confidence import SIGNALS, get_signal
from rlsf.errors import InputError, ModelError
from rlsf.tokenstats.statistics import STATISTIC_NAMES, TokenStatistics
from rlsf.traces import Trace

ANSWER_SIGNALS = [name for name, signal in SIGNALS.items() if signal.needs_answer]
OTHER_SIGNALS = [name for name, signal in SIGNALS.items() if not signal.needs_answer]
MEASURED_SIGNALS = sorted(name for name, signal in SIGNALS.items() if signal.statistics)
STATED = "17 - 10 = 7.</think> <answer>7</answer> <confidence>0.75</confidence>"


def values(name: str, trace: Trace, pieces: tuple[str, ...] = ()) -> tuple[float, float]:
    signal = get_signal(name)
    raw, confidence = signal.raw(trace, pieces), signal.confidence(trace, pieces)
    assert raw is not None
    assert confidence is not None
    return raw, confidence


@pytest.fixture
def two_token_answer() -> Trace:
    """First token imposed against the odds (rank 2), then the answer with top probabilities (.6, .3), (.9, .05)."""
    return trace_of([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.9, 0.05, 0.05]], [1, 0, 0], (1, 3))


@pytest.mark.parametrize("name", ["answer_disparity", "answer_top_gap"])
def test_disparity_over_the_answer(name: str, two_token_answer: Trace) -> None:
    # (.6 - .3 + .9 - .05) / 2 = (.30 + .85) / 2 = .575
    assert values(name, two_token_answer) == pytest.approx((0.575, 0.575))


def test_disparity_and_top_gap_part_where_the_token_is_not_the_likeliest() -> None:
    trace = trace_of([[0.6, 0.3, 0.1], [0.9, 0.05, 0.05]], [1, 0], (0, 2))
    assert values("answer_disparity", trace)[0] == pytest.approx((0 + 0.85) / 2)
    assert values("answer_top_gap", trace)[0] == pytest.approx((0.30 + 0.85) / 2)


def test_probability_and_entropy_over_the_answer(two_token_answer: Trace) -> None:
    assert values("answer_probability", two_token_answer) == pytest.approx(((0.6 + 0.9) / 2,) * 2)
    first = -(0.6 * math.log(0.6) + 0.3 * math.log(0.3) + 0.1 * math.log(0.1))
    second = -(0.9 * math.log(0.9) + 2 * 0.05 * math.log(0.05))
    entropy = (first + second) / 2
    assert values("answer_entropy", two_token_answer) == pytest.approx((entropy, 1 - entropy / math.log(3)))


@pytest.mark.parametrize("name", ["answer_disparity", "answer_top_gap", "answer_probability", "answer_entropy"])
def test_distributions_outside_the_answer_change_nothing(name: str, two_token_answer: Trace) -> None:
    other = trace_of([[0.1, 0.1, 0.8], [0.6, 0.3, 0.1], [0.9, 0.05, 0.05]], [2, 0, 0], (1, 3))
    longer = trace_of([[0.6, 0.3, 0.1], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6]], [0, 0, 2], (0, 2))
    assert values(name, other) == values(name, two_token_answer) == values(name, longer)
    # One position off is another quantity.
    assert values(name, other.with_answer(Answer("7", 0, 2))) != values(name, two_token_answer)


def test_means_over_the_whole_trace(two_token_answer: Trace) -> None:
    # geometric mean of .3, .6, .9 = cube root of .162
    assert values("mean_logprob", two_token_answer) == pytest.approx((math.log(0.162) / 3, 0.162 ** (1 / 3)))
    assert values("mean_disparity", two_token_answer)[0] == pytest.approx((0 + 0.3 + 0.85) / 3)
    assert values("minimum_disparity", two_token_answer)[0] == pytest.approx(0.3)


def test_minimum_disparity_of_a_single_token() -> None:
    assert values("minimum_disparity", trace_of([[0.6, 0.3, 0.1]], [0]))[0] == pytest.approx(0.3)


def test_self_certainty_is_the_divergence_from_uniform() -> None:
    # KL(U || p) for p = (1/2, 1/4, 1/4): (1/3)(log(2/3) + 2 log(4/3)) = log(32/27) / 3
    expected = math.log(32 / 27) / 3
    raw, confidence = values("self_certainty", trace_of([[0.5, 0.25, 0.25]], [0]))
    assert raw == pytest.approx(expected, rel=1e-5)
    assert confidence == pytest.approx(expected / (expected + math.log(3)), rel=1e-5)


def test_uniform_distribution_is_the_least_sure() -> None:
    trace = trace_of([[1 / 7] * 7], [3], (0, 1))
    for name in ("answer_disparity", "answer_top_gap", "answer_entropy", "mean_disparity", "self_certainty"):
        assert values(name, trace)[1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ANSWER_SIGNALS)
def test_no_answer_is_no_confidence(name: str, two_token_answer: Trace) -> None:
    trace = two_token_answer.with_answer(None, "no number in the trace")
    assert get_signal(name).raw(trace, ("a", "b", "c")) is None
    assert get_signal(name).confidence(trace, ("a", "b", "c")) is None


@pytest.mark.parametrize("name", OTHER_SIGNALS)
def test_whole_trace_signals_need_no_answer_but_tokens(name: str, two_token_answer: Trace) -> None:
    unanswered = two_token_answer.with_answer(None, "no number in the trace")
    assert get_signal(name).confidence(unanswered) == get_signal(name).confidence(two_token_answer)
    assert get_signal(name).confidence(trace_of([], [])) is None


@given(st.data())
def test_every_confidence_is_in_the_unit_interval(data: st.DataObject) -> None:
    vocabulary, length = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 8))
    weights = data.draw(
        st.lists(
            st.lists(st.floats(1e-6, 1.0), min_size=vocabulary, max_size=vocabulary), min_size=length, max_size=length
        )
    )
    distributions = [[weight / sum(row) for weight in row] for row in weights]
    chosen = data.draw(st.lists(st.integers(0, vocabulary - 1), min_size=length, max_size=length))
    start = data.draw(st.integers(0, length - 1))
    trace = trace_of(distributions, chosen, (start, data.draw(st.integers(start + 1, length))))
    trace = replace(trace, text=f"<confidence>{data.draw(st.floats(0.1, 1.0))}</confidence>")
    pieces = tuple(data.draw(st.sampled_from([" 12", "7", " so", ".", "", "=", "\n", "B"])) for _ in chosen)
    for signal in SIGNALS.values():
        confidence = signal.confidence(trace, pieces)
        assert confidence is not None
        assert 0.0 <= confidence <= 1.0


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_reads_only_the_statistics_it_declares(name: str) -> None:
    signal = get_signal(name)
    trace = trace_of([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.9, 0.06, 0.04]], [1, 0, 0], (1, 3))
    trace, pieces = replace(trace, text=STATED), (" so", " 1", "2")
    spoiled = {
        column: np.full(3, 7 if column == "top1_id" else np.nan)
        for column in STATISTIC_NAMES
        if column not in signal.statistics
    }
    without = replace(trace, statistics=replace(trace.statistics, **spoiled))
    assert signal.raw(without, pieces) == signal.raw(trace, pieces) is not None
    if not signal.needs_pieces:
        assert signal.raw(trace) == signal.raw(trace, pieces)


@pytest.mark.parametrize("name", MEASURED_SIGNALS)
def test_not_a_number_is_an_error(name: str, two_token_answer: Trace) -> None:
    signal = get_signal(name)
    nan = {column: np.full(3, np.nan, dtype=np.float32) for column in signal.statistics}
    trace = replace(two_token_answer, statistics=replace(two_token_answer.statistics, **nan))
    with pytest.raises(ModelError, match=rf"{name} of trace p#0 is nan"):
        signal.confidence(trace, ("1", "2", "3"))


def test_excluded_vocabulary_is_an_error_for_self_certainty(two_token_answer: Trace) -> None:
    masked = replace(two_token_answer.statistics, mean_logit=np.full(3, -np.inf, dtype=np.float32))
    with pytest.raises(ModelError, match="self_certainty of trace p#0 is inf"):
        get_signal("self_certainty").raw(replace(two_token_answer, statistics=masked))


def test_out_of_range_is_an_error_and_rounding_is_not(two_token_answer: Trace) -> None:
    signal = get_signal("answer_entropy")

    def with_entropy(entropy: float) -> Trace:
        statistics = replace(two_token_answer.statistics, entropy=np.full(3, entropy, dtype=np.float32))
        return replace(two_token_answer, statistics=statistics)

    with pytest.raises(ModelError, match=r"answer_entropy of trace p#0 is 2 nats, which maps to -0\.8"):
        signal.confidence(with_entropy(2.0))
    assert signal.confidence(with_entropy(math.log(3) + 1e-6)) == 0.0


def test_pieces_of_another_length_are_an_error(two_token_answer: Trace) -> None:
    with pytest.raises(ValueError, match="3 tokens but 2 pieces"):
        get_signal("trace_confidence").raw(two_token_answer, ("1", "2"))


@pytest.mark.parametrize(
    ("text", "confidence"),
    [
        (STATED, 0.75),
        ("<confidence>0.2</confidence> no: <confidence> .9 </confidence> and more", 0.9),
        ("<confidence>0</confidence>", 0.0),
        ("<confidence>1.0</confidence>", 1.0),
        ("The answer is 7.", None),
        ("<confidence>1.5</confidence>", None),
        ("<confidence>-0.5</confidence>", None),
        ("<confidence>90%</confidence>", None),
        ("<confidence>high</confidence>", None),
        ("<confidence>nan</confidence>", None),
        ("<confidence></confidence>", None),
        ("<confidence>0.5", None),
        ("<confidence>0.5</confidence> <confidence>sure</confidence>", None),
    ],
)
def test_the_confidence_in_words(text: str, confidence: float | None, two_token_answer: Trace) -> None:
    signal, trace = get_signal("verbalised"), replace(two_token_answer, text=text)
    assert signal.confidence(trace) == signal.raw(trace) == confidence


def test_the_confidence_in_words_needs_no_statistics(two_token_answer: Trace) -> None:
    missing = TokenStatistics.missing(3, 3)
    trace = replace(two_token_answer, text=STATED, statistics=missing)
    assert get_signal("verbalised").confidence(trace) == 0.75
    assert get_signal("answer_disparity").confidence(trace) is None
    partly = replace(missing, top1_id=np.array([-1, 0, 0], dtype=np.int32))
    assert get_signal("verbalised").confidence(replace(trace, statistics=partly)) == 0.75


def test_unknown_signal_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'answer_dispairity' \(did you mean 'answer_disparity'"):
        get_signal("answer_dispairity")


def test_registry_is_consistent() -> None:
    assert len(SIGNALS) == 10
    for name, signal in SIGNALS.items():
        assert signal.name == name
        assert set(signal.statistics) <= set(STATISTIC_NAMES)


def test_a_server_s_trace_is_refused_by_signals_that_need_whole_distributions() -> None:
    statistics = TokenStatistics.of_likeliest(
        logprob=[-0.1, -0.2], top1_logprob=[-0.1, -0.2], top2_logprob=[-3.0, -4.0], top1_id=[1, 2], vocabulary_size=9
    )
    trace = Trace("p", 0, "greedy", np.array([1]), np.array([1, 2]), "text", "eos", statistics)
    assert get_signal("mean_logprob").raw(trace) == pytest.approx(-0.15)
    for name in ("self_certainty", "answer_entropy"):
        with pytest.raises(InputError, match=r"rlsf score"):
            get_signal(name).raw(trace.with_answer(Answer("2", 1, 2)))
