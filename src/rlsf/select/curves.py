"""Accuracy over N: what selectors reach on subsets of N of the M traces that each question has.

The expectation over all subsets is exact for argmax, for pass@N, and wherever a question has few subsets; for the votes
it is a mean over random ones. Answers were grouped and graded before, so that a curve costs array operations alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlsf.errors import InputError
from rlsf.evaluation import bootstrap, percentile_interval
from rlsf.evaluation.groups import FloatArray, IntArray
from rlsf.select.ballot import Ballot
from rlsf.select.schema import Curves, Estimate
from rlsf.select.selectors import Selector
from rlsf.select.subsets import Subsets
from rlsf.select.winners import argmax_accuracy, vote_accuracy

#: Traces of subsets that are held at once; results do not depend on it.
CHUNK = 200_000
MAJORITY = Selector("majority")


@dataclass(frozen=True, slots=True, eq=False)
class GradedTraces:
    """The M traces of a question: ``classes`` (-1: no answer), ``sureness`` (-inf: none) and ``correct``, [M] each.

    ``id`` seeds the subsets of the question, whatever is measured beside it and in whatever order.
    """

    id: str
    classes: IntArray
    sureness: FloatArray
    correct: NDArray[np.bool_]

    @classmethod
    def of(cls, id: str, ballot: Ballot, correct: Sequence[bool]) -> GradedTraces:
        """The traces of ``ballot``, each right or wrong; one without an answer is wrong."""
        classes = np.array(ballot.class_of, np.int64)
        return cls(id, classes, np.array(ballot.sureness), np.array(correct, bool) & (classes >= 0))


def curve_sizes(traces: int) -> list[int]:
    """1, 2, 4, ... up to ``traces``, and that number itself."""
    return sorted({2**power for power in range(traces.bit_length())} | {traces})


def pass_at(traces: int, correct: int, size: int) -> float:
    """P(any of N is right) = 1 - C(M - c, N) / C(M, N) for c right ones of M traces: the unbiased pass@N."""
    return 1.0 - math.comb(traces - correct, size) / math.comb(traces, size)


def accuracy_curves(
    questions: Sequence[GradedTraces],
    selectors: Sequence[Selector],
    sizes: Sequence[int] | None = None,
    *,
    subsets: int = 32,
    seed: int = 0,
    resamples: int = 2000,
) -> Curves:
    """Accuracy of each selector among N of the traces of each question, for N in ``sizes``.

    ``sizes``: by default ``curve_sizes`` of the smallest number of traces that a question has. ``subsets``: how many
    are drawn of a question, without replacement within each; all of them are counted where there are no more than that,
    or no more than traces, so that N = 1 is the mean accuracy. Those of one question are nested over N and the same for
    all selectors. Intervals are of other questions, not of other traces. Raises ``InputError`` for no questions, for
    an N that a question has not, and for confidences outside [0, 1] where a selector is ``weighted``.
    """
    sizes = _checked(questions, sizes, subsets)
    names = [selector.name for selector in selectors]
    values = {name: np.zeros((len(questions), len(sizes))) for name in names}
    _require_weights(questions, selectors)
    for places in _batches(questions, subsets):
        batch = [questions[place] for place in places]
        draws = Subsets([question.id for question in batch], len(batch[0].classes), subsets, seed)
        classes, sureness, correct = (
            np.stack([getattr(question, name) for question in batch]) for name in ("classes", "sureness", "correct")
        )
        for column, size in enumerate(sizes):
            included = draws.of(size)
            for selector in selectors:
                if selector.kind == "argmax":
                    found = argmax_accuracy(classes, sureness, correct, size)
                else:
                    found = vote_accuracy(selector, classes, sureness, correct, included, size)
                values[selector.name][places, column] = found
    oracle = np.array([[pass_at(len(q.correct), int(q.correct.sum()), size) for size in sizes] for q in questions])
    majority = values.get(MAJORITY.name)
    gains = {} if majority is None else {n: values[n] - majority for n in names if n != MAJORITY.name}
    estimated = _estimates(
        {("accuracy", n): values[n] for n in names} | {("gain", n): gains[n] for n in gains} | {("oracle", ""): oracle},
        resamples,
        seed,
    )
    return Curves(
        questions=len(questions),
        fewest=_fewest(questions).id,
        sizes=list(sizes),
        subsets=subsets,
        seed=seed,
        accuracy={name: estimated["accuracy", name] for name in names},
        gain={name: estimated["gain", name] for name in gains},
        oracle=estimated["oracle", ""],
    )


def _checked(questions: Sequence[GradedTraces], sizes: Sequence[int] | None, subsets: int) -> list[int]:
    if not questions:
        raise InputError("no questions to measure: give at least one with graded traces")
    fewest = _fewest(questions)
    traces = len(fewest.classes)
    sizes = curve_sizes(traces) if sizes is None else list(sizes)
    if not traces or not sizes or min(sizes) < 1 or max(sizes) > traces or subsets < 1:
        raise InputError(
            f"sizes {sizes} with {subsets} subsets: give numbers of traces from 1 to {traces}, which is what question"
            f" {fewest.id!r} has, and at least 1 subset"
        )
    return sizes


def _fewest(questions: Sequence[GradedTraces]) -> GradedTraces:
    return min(questions, key=lambda question: len(question.classes))


def _require_weights(questions: Sequence[GradedTraces], selectors: Sequence[Selector]) -> None:
    if any(selector.kind == "weighted" for selector in selectors):
        for question in questions:
            known = question.sureness[question.sureness != -np.inf]
            if not ((known >= 0) & (known <= 1)).all():
                raise InputError(
                    f"question {question.id!r} has confidences outside [0, 1], as the selector weighted needs them:"
                    " leave it out, or give confidences"
                )


def _batches(questions: Sequence[GradedTraces], subsets: int) -> Iterator[list[int]]:
    """Places of questions with the same number of traces, a few at a time."""
    by_traces: dict[int, list[int]] = {}
    for place, question in enumerate(questions):
        by_traces.setdefault(len(question.classes), []).append(place)
    for traces, places in by_traces.items():
        step = max(1, CHUNK // (traces * max(subsets, traces)))
        yield from (places[start : start + step] for start in range(0, len(places), step))


def _estimates(
    figures: Mapping[tuple[str, str], FloatArray], resamples: int, seed: int
) -> dict[tuple[str, str], list[Estimate]]:
    """The mean of each column [questions, sizes] with its interval, from the same resamples of questions."""
    first = next(iter(figures.values()))
    questions, width = first.shape
    table = np.concatenate(list(figures.values()), axis=1)

    def means(counts: IntArray) -> dict[str, FloatArray]:
        resampled = counts @ table / questions
        return {str(column): resampled[:, column] for column in range(table.shape[1])}

    found = []
    for column, distribution in enumerate(bootstrap(means, questions, resamples, seed).values()):
        low, high = percentile_interval(distribution) or (math.nan, math.nan)
        found.append(Estimate(value=float(table[:, column].mean()), low=low, high=high))
    return {key: found[place * width : (place + 1) * width] for place, key in enumerate(figures)}
