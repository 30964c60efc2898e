"""The study of signals: closed forms, parity with scikit-learn and with definitions spelt out, invariances, advice."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from rlsf.errors import InputError
from rlsf.evaluation import aurc, ece
from rlsf.evaluation.signal_advice import remarks
from rlsf.evaluation.signal_measures import MEASURES, SignalMeasures
from rlsf.evaluation.signal_schema import SignalStudy, StudySettings
from rlsf.evaluation.signal_study import study_signals
from rlsf.evaluation.studied_traces import STUDY_SCHEMA, StudiedTraces

QUICK = StudySettings(resamples=50)


def row(
    prompt: str, index: int, answer: int, correct: bool | None, *, worked: bool = False, copied: bool = False, **signals
) -> dict[str, Any]:
    """A row of a study; ``answer`` is the class, -1 for none."""
    known = {"prompt_id": prompt, "index": index, "answer": str(answer), "answer_class": answer, "correct": correct}
    return {**known, "answer_start": 0, "answer_end": 1, "tokens": 3, "worked": worked, "copied": copied, **signals}


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    signals = [name for name in rows[0] if name not in STUDY_SCHEMA.names]
    return pa.Table.from_pylist(rows, schema=pa.schema([*STUDY_SCHEMA, *((name, pa.float64()) for name in signals)]))


def values(rows: Sequence[dict[str, Any]], signal: str = "sure") -> dict[str, float]:
    """Every measure of the traces themselves."""
    traces = StudiedTraces.of(table(rows))
    measured = SignalMeasures(traces, signal, QUICK)(np.ones((1, traces.questions), np.int64))
    return {name: float(value[0]) for name, value in measured.items()}


confidences = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.985, 0.99, 1.0]), st.floats(0, 1))
some_rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-1, 2), st.booleans(), st.booleans(), confidences),
    min_size=1,
    max_size=24,
).map(
    lambda drawn: [
        row(f"q{question}", place, answer, answer == 0, worked=worked, copied=copied, sure=sure)
        for place, (question, answer, worked, copied, sure) in enumerate(drawn)
    ]
)


def share(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> float:
    """Of pairs of a right and a wrong trace, those whose right one is surer, ties half."""
    won = [0.5 * (np.sign(right["sure"] - wrong["sure"]) + 1) for right, wrong in pairs]
    return float(np.mean(won)) if won else float("nan")


@given(rows=some_rows)
def test_every_share_of_pairs_is_its_definition(rows: list[dict[str, Any]]) -> None:
    found = values(rows)
    answered = [one for one in rows if one["answer_class"] >= 0]
    pairs = [pair for pair in itertools.product(answered, repeat=2) if pair[0]["correct"] and not pair[1]["correct"]]
    expected = {
        "auroc": pairs,
        "within_question": [(a, b) for a, b in pairs if a["prompt_id"] == b["prompt_id"]],
        "direct": [(a, b) for a, b in pairs if not a["worked"] and not b["worked"]],
        "worked": [(a, b) for a, b in pairs if a["worked"] and b["worked"]],
        "across_reasoning": [(a, b) for a, b in pairs if a["worked"] != b["worked"]],
        "computed": [(a, b) for a, b in pairs if not a["copied"] and not b["copied"]],
        "copied": [(a, b) for a, b in pairs if a["copied"] and b["copied"]],
        "across_copying": [(a, b) for a, b in pairs if a["copied"] != b["copied"]],
    }
    for name, given_pairs in expected.items():
        assert found[name] == pytest.approx(share(given_pairs), abs=1e-12, nan_ok=True), name


@given(rows=some_rows)
def test_the_surest_and_ties_are_their_definitions(rows: list[dict[str, Any]]) -> None:
    found = values(rows)
    surest, sure, tied = [], [], []
    for question in dict.fromkeys(one["prompt_id"] for one in rows):
        answered = [one for one in rows if one["prompt_id"] == question and one["answer_class"] >= 0]
        answered.sort(key=lambda one: (-one["sure"], one["index"]))
        surest.append(bool(answered) and answered[0]["correct"])
        sure.append(answered[0]["sure"] if answered else 0.0)
        others = [one for one in answered if one["answer_class"] != answered[0]["answer_class"]]
        tied += [answered[0]["sure"] - others[0]["sure"] <= 0.01 + 1e-12] if others else []
    assert found["surest_accuracy"] == pytest.approx(np.mean(surest))
    assert found["surest_ece"] == pytest.approx(ece(sure, surest))
    assert found["tied"] == pytest.approx(np.mean(tied) if tied else float("nan"), nan_ok=True)
    answered = [one for one in rows if one["answer_class"] >= 0]
    for name, among in (("saturated", answered), ("saturated_wrong", [one for one in answered if not one["correct"]])):
        full = [one["sure"] >= 0.99 for one in among]
        assert found[name] == pytest.approx(np.mean(full) if full else float("nan"), nan_ok=True)


def example(questions: int = 40, branches: int = 5, seed: int = 0, **noise: float) -> list[dict[str, Any]]:
    """Traces right with the probability ``p``, and signals that are ``p`` with noise of a given size."""
    random = np.random.default_rng(seed)
    rows = []
    for question in range(questions):
        for index in range(branches):
            p = float(random.uniform(0.05, 0.95))
            correct = bool(random.random() < p)
            signals = {name: float(np.clip(p + size * random.normal(), 0, 1)) for name, size in noise.items()}
            kind = {"worked": bool(random.random() < 0.5), "copied": bool(random.random() < 0.5)}
            rows.append(row(f"q{question:03}", index, 0 if correct else 1, correct, **kind, **signals))
    return rows


def study(rows: Sequence[dict[str, Any]], **changes: Any) -> SignalStudy:
    return study_signals(StudiedTraces.of(table(rows)), QUICK.model_copy(update=changes))


def test_parity_with_scikit_learn_and_the_definition_of_aurc() -> None:
    rows = example(sure=0.1)
    sure, correct = [one["sure"] for one in rows], [one["correct"] for one in rows]
    found = values(rows)
    assert found["auroc"] == pytest.approx(roc_auc_score(correct, sure), abs=1e-12)
    assert found["aurc"] == pytest.approx(aurc(sure, correct), abs=1e-12)


def test_resamples_are_the_figures_of_questions_repeated() -> None:
    """Also where questions have different numbers of answered traces, so that resamples have too."""
    rows = [one for place, one in enumerate(example(questions=6, sure=0.2)) if place % 7]
    traces = StudiedTraces.of(table(rows))
    counts = np.array([[2, 0, 1, 1, 1, 1], [0, 3, 0, 2, 1, 0]])
    found = SignalMeasures(traces, "sure", QUICK)(counts)
    for place, drawn in enumerate(counts):
        copies = [
            {**one, "prompt_id": f"{one['prompt_id']}-{copy}"}
            for question, count in enumerate(drawn)
            for copy in range(count)
            for one in rows
            if one["prompt_id"] == f"q{question:03}"
        ]
        again = values(copies)
        for name in MEASURES:
            assert found[name][place] == pytest.approx(again[name], abs=1e-12, nan_ok=True), name


@settings(max_examples=20, deadline=None)
@given(shuffle=st.randoms(use_true_random=False), power=st.sampled_from([0.5, 2.0]))
def test_order_of_rows_and_monotone_maps_change_nothing(shuffle: Any, power: float) -> None:
    rows = example(questions=8, sure=0.1, other=0.4)
    mapped = [{**one, "sure": one["sure"] ** power} for one in rows]
    shuffle.shuffle(mapped)
    before, after = study(rows), study(mapped)
    of_order = ("auroc", "aurc", "within_question", "worked", "across_copying", "surest_accuracy")
    for name in of_order:
        assert before.signals["sure"].figures[name] == after.signals["sure"].figures[name]
        assert before.rankings[name].differences == after.rankings[name].differences
    assert before.signals["other"] == after.signals["other"]
    assert before.advice == after.advice


def test_accuracies_beside_the_signals() -> None:
    # Greedy right in b alone; two votes against one in a; a tie in b goes to the answer given first; c has no answer.
    rows = [
        *(row("a", index, answer, answer == 1, sure=0.5) for index, answer in enumerate((0, 1, 1))),
        *(row("b", index, answer, answer == 0, sure=0.5) for index, answer in enumerate((0, 1, -1))),
        *(row("c", index, -1, None, sure=None) for index in range(3)),
    ]
    found = study(rows)
    accuracy = {name: one.value for name, one in found.accuracy.items()}
    assert accuracy == pytest.approx({"trace": 1 / 3, "greedy": 1 / 3, "majority": 2 / 3, "any": 2 / 3})
    assert (found.traces, found.answered, found.ungraded) == (9, 5, 0)
    sampled = study_signals(StudiedTraces.of(table(rows)), QUICK, greedy_first=False)
    assert sampled.accuracy["greedy"].value is None


def test_undecided_grades_and_missing_confidences_are_counted() -> None:
    found = study([row("a", 0, 0, True, sure=0.5), row("a", 1, 1, None, sure=None), row("a", 2, -1, None, sure=None)])
    assert (found.ungraded, found.signals["sure"].without_confidence) == (1, 1)
    assert found.signals["sure"].figures["auroc"].value == 1.0


def test_kinds_hold_every_answered_trace_once() -> None:
    found = study(example(sure=0.1))
    assert sum(one.traces for one in found.kinds.values()) == found.answered == 200
    for kind, one in found.signals["sure"].kinds.items():
        counts = [(bin_.correct, bin_.wrong) for bin_ in one.histogram]
        assert sum(map(sum, counts)) == found.kinds[kind].traces
        assert sum(right for right, _ in counts) == found.kinds[kind].right


def test_a_clear_winner_is_named_and_a_close_race_is_not() -> None:
    clear = study(example(questions=200, sure=0.0, noisy=3.0), resamples=400)
    ranking = clear.rankings["auroc"]
    assert ranking.best == "sure"
    assert ranking.differences["noisy"].separated
    assert clear.advice.startswith("Trust sure (AUROC ")
    assert "every other signal" in clear.advice
    close = study(example(questions=200, sure=0.1, alike=0.1, noisy=3.0), resamples=400)
    assert set(close.rankings["auroc"].alike) == {"sure", "alike"}
    assert "which these questions do not separate" in close.advice
    assert close.advice.endswith(f"the other one is worse than {close.rankings['auroc'].best}.")
    few = study(example(questions=200, sure=0.1, alike=0.1), resamples=400)
    assert few.advice.startswith("These questions separate no signal from ")


def test_chance_and_no_contrast_are_said() -> None:
    rows = [{**one, "sure": 0.5} for one in example(sure=0.0)]
    assert study(rows).advice.startswith("Trust none of these signals: even sure is not told apart from chance")
    right = [{**one, "correct": True} for one in rows]
    found = study(right)
    assert found.signals["sure"].figures["auroc"].value is None
    assert found.advice.startswith("All traces are right or all are wrong")
    assert "auroc" not in found.rankings


def test_identical_signals_are_never_separated() -> None:
    rows = [{**one, "twin": one["sure"]} for one in example(sure=0.1)]
    contrast = study(rows).rankings["auroc"].differences["twin"]
    assert (contrast.value, contrast.interval, contrast.p, contrast.separated) == (0.0, (0.0, 0.0), 1.0, False)


def test_false_separations_are_as_rare_as_promised() -> None:
    """Signals that differ by noise alone: one is called separated in about one study of twenty at most."""
    studies = 60
    noise = dict.fromkeys(("a", "b", "c"), 0.5)
    separated = 0
    for seed in range(studies):
        found = study(example(questions=60, seed=seed, **noise), resamples=200).rankings["auroc"]
        separated += any(one.separated for one in found.differences.values())
    # At a true rate of 5 % more than 8 of 60 has a probability below 0.5 %.
    assert separated <= 8


def test_saturation_of_the_span_is_told_by_kind() -> None:
    rows = [
        row("a", 0, 0, True, worked=True, copied=True, answer_disparity=1.0),
        row("a", 1, 1, False, worked=True, copied=True, answer_disparity=0.995),
        row("a", 2, 0, True, answer_disparity=0.7),
        row("a", 3, 1, False, answer_disparity=0.2),
    ]
    said = remarks(study(rows))[-1]
    assert said == (
        "answer_disparity is at least 0.99 for 0.0 % of right and 0.0 % of wrong ones if direct, computed;"
        " 100.0 % of right and 100.0 % of wrong ones if worked, copied."
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no traces to measure signals on"),
        ([row("a", 0, 0, True, sure=1.5)], r"confidence 1\.5 of sure is not in \[0, 1\]"),
        ([row("a", 0, 0, True, sure=0.5)] * 2, "trace a#0 is there twice"),
        ([row("a", 0, -1, None, sure=0.5)], "no trace has an answer"),
        ([row("a", 0, 0, True)], "no signals to study"),
    ],
)
def test_mistakes(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        study_signals(StudiedTraces.of(table(rows) if rows else STUDY_SCHEMA.empty_table()), QUICK)
