"""Figures of a loop by hand: its own, and those of as many independent samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rlsf.acceptance.closed_form import Rates, loop_accuracy, mean_rounds
from rlsf.acceptance.figures import Tried, loop_figures
from rlsf.answers.answer import Answer
from rlsf.errors import InputError
from rlsf.evaluation.modes import Retry, Verdicts
from rlsf.tokenstats.statistics import TokenStatistics
from rlsf.traces import Trace


def attempt(index: int, answer: str | None, tokens: int = 2) -> Trace:
    ids = np.arange(tokens, dtype=np.int32)
    said = None if answer is None else Answer(answer, 0, 1)
    missing = TokenStatistics.missing(tokens, 10)
    return Trace("q", index, "sampling", ids, ids, answer or "", "eos", missing, said)


def tried(
    answers: Sequence[str | None], scores: Sequence[float], threshold: float = 0.5, *, abstain: bool = False
) -> Tried:
    """A question with gold answer r, whose attempts are its samples; the second of them has four tokens."""
    traces = [attempt(index, answer, 4 if index == 1 else 2) for index, answer in enumerate(answers)]
    verdicts = Verdicts("r", (), lambda answer, gold, choices: answer == gold)
    return Tried(verdicts, Retry(traces, scores, threshold, abstain), traces, scores, [0.1] * len(traces))


THREE = (
    (["r", "w", "w"], [0.9, 0.1, 0.1]),  # accepted at once, right
    (["w", "r", "r"], [0.2, 0.6, 0.9]),  # rejected, then right
    (["w", "w", None], [0.1, 0.3, 0.0]),  # never accepted
)


def test_figures_by_hand() -> None:
    found = loop_figures([tried(*one) for one in THREE], rounds=3, resamples=200, seed=0)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["mean_rounds"] == pytest.approx((1 + 2 + 3) / 3)
    assert found["mean_tokens"] == pytest.approx((2 + 6 + 8) / 3)
    assert (found["answered"], found["accuracy_answered"]) == (1.0, pytest.approx(2 / 3))
    # Over all nine attempts: three are right, all accepted; six are wrong, none accepted.
    rates = Rates(1 / 3, 1.0, 0.0)
    assert (found["p"], found["a"], found["b"]) == (pytest.approx(1 / 3), 1.0, 0.0)
    assert (found["predicted"], found["predicted_rounds"]) == (loop_accuracy(rates, 3), mean_rounds(rates, 3))
    assert found["precision"] == 1.0
    # Two samples each: ties of votes go to the first where confidences are equal.
    assert found["calls"] == 2
    assert found["same_calls"] == pytest.approx({"first": 1 / 3, "majority": 1 / 3, "best": 2 / 3, "oracle": 2 / 3})
    # Two samples write six tokens; here every prompt is as long as the attempt at it.
    loop = {"calls": 2.0, "written": 16 / 3, "read": (2 + 6 + 8) / 3, "judged": 0.0}
    assert found["cost"]["loop"] == pytest.approx(loop)
    assert found["cost"]["same_calls"] == pytest.approx({"calls": 2.0, "written": 6.0, "read": 6.0, "judged": 0.0})
    low, high = found["interval"]
    assert 0 <= low < found["accuracy"] < high <= 1
    assert found["differences"]["majority"]["value"] == pytest.approx(1 / 3)
    assert found["differences"]["best"] == {"value": 0.0, "interval": (0.0, 0.0)}


def test_a_model_reads_the_question_and_every_attempt_that_has_an_answer() -> None:
    found = loop_figures([tried(*one) for one in THREE], rounds=3, resamples=100, seed=0, model_reads=True)
    # 2 + 2; rejected, 2 + 2, then 2 + 4; both of the answers, 2 + 2 and 2 + 4, and nothing of the third attempt.
    assert found["cost"]["loop"]["judged"] == pytest.approx((4 + 10 + 10) / 3)
    assert found["cost"]["same_calls"]["judged"] == pytest.approx(10)


def test_what_it_is_compared_with_is_no_cheaper_in_tokens() -> None:
    """Hard questions take long attempts: one sample of each question writes less than one attempt of the loop."""
    hard = [attempt(index, "w", 50) for index in range(3)]
    easy = tried(["r", "r", "r"], [0.9] * 3)
    verdicts = easy.verdicts
    long = Tried(verdicts, Retry(hard, [0.1, 0.9, 0.9], 0.5), hard, [0.1, 0.9, 0.9], [0.1] * 3)
    found = loop_figures([easy, easy, easy, long], rounds=3, resamples=100, seed=0)
    assert found["mean_rounds"] == 1.25
    assert found["calls"] == 2
    cost = found["cost"]
    assert cost["loop"]["written"] == pytest.approx((3 * 2 + 100) / 4)
    assert cost["same_calls"]["written"] == pytest.approx((3 * 6 + 100) / 4)
    talkative = [attempt(index, "w", 90) for index in range(2)]  # of a dialogue, whose attempts are no samples
    dialogue = Tried(verdicts, Retry(talkative, [0.1, 0.9], 0.5), hard, [0.1] * 3, [0.1] * 3)
    assert loop_figures([dialogue], rounds=3, resamples=100, seed=0)["calls"] == 3, "180 tokens: two write but 100"
    endless = Tried(verdicts, Retry([talkative[0]] * 3, [0.1] * 3, 0.5), hard, [0.1] * 3, [0.1] * 3)
    short = loop_figures([endless], rounds=3, resamples=100, seed=0)
    assert (short["calls"], short["cost"]["loop"]["written"], short["cost"]["same_calls"]["written"]) == (3, 270, 150)


def test_abstention_counts_only_what_was_accepted() -> None:
    found = loop_figures([tried(*one, abstain=True) for one in THREE], rounds=3, resamples=200, seed=0)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert (found["answered"], found["accuracy_answered"]) == (pytest.approx(2 / 3), 1.0)
    assert found["predicted"] == pytest.approx(mean_rounds(Rates(1 / 3, 1, 0), 3) / 3)


def test_the_closed_form_meets_the_loop_where_rounds_are_independent() -> None:
    random, rounds, rates = np.random.default_rng(1), 4, Rates(0.5, 0.8, 0.25)
    questions = []
    for _ in range(4000):
        right = random.random(rounds) < rates.right
        accepts = random.random(rounds) < np.where(right, rates.true, rates.false)
        questions.append(tried(["r" if one else "w" for one in right], [0.9 if one else 0.1 for one in accepts]))
    found = loop_figures(questions, rounds=rounds, resamples=100, seed=0)
    assert found["accuracy"] == pytest.approx(found["predicted"], abs=0.03)
    assert found["mean_rounds"] == pytest.approx(found["predicted_rounds"], abs=0.06)
    assert found["predicted"] == pytest.approx(loop_accuracy(rates, rounds), abs=0.03)


def test_rates_that_are_undefined_are_left_out() -> None:
    found = loop_figures([tried(["r", "r"], [0.9, 0.1])], rounds=2, resamples=100, seed=0)
    assert (found["p"], found["a"], found["predicted"]) == (1.0, None, None)
    with pytest.raises(InputError, match="no questions were tried"):
        loop_figures([], rounds=2, resamples=100, seed=0)
