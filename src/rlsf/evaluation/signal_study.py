"""Signals against each other on the same traces: the content of ``signals.json``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict
from statistics import NormalDist

import numpy as np

from rlsf.errors import InputError
from rlsf.evaluation.bootstrap import CHUNK, bootstrap, percentile_interval
from rlsf.evaluation.calibration import histogram
from rlsf.evaluation.groups import FloatArray, IntArray
from rlsf.evaluation.multiple import holm
from rlsf.evaluation.selective import auroc
from rlsf.evaluation.signal_advice import advice
from rlsf.evaluation.signal_measures import MEASURES, RANKED, SignalMeasures
from rlsf.evaluation.signal_schema import (
    Contrast,
    Estimate,
    KindCounts,
    KindFigures,
    Ranking,
    SignalFigures,
    SignalStudy,
    StudySettings,
)
from rlsf.evaluation.studied_traces import KINDS, BoolArray, StudiedTraces

#: Differences are told apart below this p value, after Holm's correction.
ALPHA = 0.05
#: Values and bootstrap distributions of a signal by measure.
_Measured = tuple[dict[str, float], dict[str, FloatArray]]


def study_signals(traces: StudiedTraces, settings: StudySettings, *, greedy_first: bool = True) -> SignalStudy:
    """Every measure of every signal with intervals, rankings with paired differences, and a sentence of advice.

    All signals see the same resampled questions. ``greedy_first``: the first trace of each question is greedy decoding.
    Raises ``InputError`` for no signals and where no trace has an answer.
    """
    if not traces.confidence:
        raise InputError("no signals to study: name at least one")
    if not traces.answered.any():
        raise InputError("no trace has an answer: choose the format that they end with, answer.format")
    # Counts of questions become counts of traces, so that a chunk holds as many of these.
    chunk = max(1, CHUNK * traces.questions // len(traces.question))
    measured: dict[str, _Measured] = {}
    for name in traces.confidence:
        measure = SignalMeasures(traces, name, settings)
        values = {key: float(one[0]) for key, one in measure(np.ones((1, traces.questions), np.int64)).items()}
        measured[name] = values, bootstrap(measure, traces.questions, settings.resamples, settings.seed, chunk)
    signals = {
        name: SignalFigures(
            figures={key: _estimate(values[key], drawn[key]) for key in MEASURES},
            kinds={kind: _of_kind(traces, name, traces.kind(kind), settings) for kind in KINDS},
            without_confidence=int((np.isnan(traces.confidence[name]) & traces.answered).sum()),
        )
        for name, (values, drawn) in measured.items()
    }
    rankings = {key: ranking for key in RANKED if (ranking := _ranking(key, measured)) is not None}
    return SignalStudy(
        settings=settings,
        definitions={name: measure.definition for name, measure in MEASURES.items()},
        questions=traces.questions,
        traces=len(traces.question),
        answered=int(traces.answered.sum()),
        ungraded=traces.ungraded,
        accuracy=_accuracy(traces, settings, greedy_first=greedy_first),
        kinds={
            kind: KindCounts(traces=int(traces.kind(kind).sum()), right=int(traces.correct[traces.kind(kind)].sum()))
            for kind in KINDS
        },
        signals=signals,
        rankings=rankings,
        advice=advice(signals, rankings),
    )


def _estimate(value: float, drawn: FloatArray) -> Estimate:
    if not math.isfinite(value):
        return Estimate(value=None, interval=None)
    return Estimate(value=value, interval=percentile_interval(drawn))


def _of_kind(traces: StudiedTraces, name: str, inside: BoolArray, settings: StudySettings) -> KindFigures:
    """The signal on the traces of one kind."""
    values, correct = np.nan_to_num(traces.confidence[name][inside], nan=0.0), traces.correct[inside]
    sides = {"right": values[correct], "wrong": values[~correct]}
    means = {side: float(found.mean()) if len(found) else None for side, found in sides.items()}
    full = {side: float((v >= settings.saturation).mean()) if len(v) else None for side, v in sides.items()}
    told_apart = 0 < correct.sum() < len(correct)
    return KindFigures.model_validate(
        {
            "auroc": auroc(values, correct) if told_apart else None,
            **{f"mean_{side}": mean for side, mean in means.items()},
            **{f"saturated_{side}": share for side, share in full.items()},
            "histogram": [asdict(one) for one in histogram(values, correct)] if len(values) else [],
        }
    )


def _ranking(key: str, measured: Mapping[str, _Measured]) -> Ranking | None:
    """The best signal in a measure and the others less it; None unless at least two have the figure."""
    known = [name for name, (values, _) in measured.items() if math.isfinite(values[key])]
    if len(known) < 2:
        return None
    sign = 1.0 if MEASURES[key].higher_is_better else -1.0
    best = max(known, key=lambda name: sign * measured[name][0][key])
    pairs = list(itertools.combinations(known, 2))
    p_values = [_p_value(measured[one], measured[other], key) for one, other in pairs]
    corrected = dict(zip(map(frozenset, pairs), zip(p_values, holm(p_values), strict=True), strict=True))
    differences = {}
    for name in sorted(known, key=lambda name: -sign * measured[name][0][key]):
        if name == best:
            continue
        (value, drawn), (top, drawn_top) = ((measured[one][0][key], measured[one][1][key]) for one in (name, best))
        interval = percentile_interval(drawn - drawn_top)
        p, p_holm = corrected[frozenset((name, best))]
        apart = interval is not None and not interval[0] <= 0 <= interval[1]
        differences[name] = Contrast(
            value=value - top,
            interval=interval,
            p=p,
            p_holm=p_holm,
            separated=apart and p_holm is not None and p_holm < ALPHA,
        )
    return Ranking(best=best, differences=differences)


def _p_value(one: _Measured, other: _Measured, key: str) -> float | None:
    """2 (1 - Phi(|d| / s)) for a difference d with bootstrap standard error s; None where it is not known.

    A share of resamples could not go below one in as many as there are, which Holm's correction multiplies.
    """
    difference = one[0][key] - other[0][key]
    drawn = one[1][key] - other[1][key]
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2:
        return None
    error = float(drawn.std(ddof=1))
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return min(1.0, 2 * (1 - NormalDist().cdf(abs(difference) / error)))


def _accuracy(traces: StudiedTraces, settings: StudySettings, *, greedy_first: bool) -> dict[str, Estimate]:
    """Accuracy of a random trace, of the first where it is greedy, of the majority, and of the best trace."""
    right = traces.correct.astype(np.float64)
    each = np.bincount(traces.question, minlength=traces.questions)
    by_question = np.bincount(traces.question, weights=right, minlength=traces.questions)
    starts = np.searchsorted(traces.question, np.arange(traces.questions))
    columns = {
        "trace": by_question / each,
        "greedy": right[starts] if greedy_first else np.full(traces.questions, np.nan),
        "majority": _majority_right(traces),
        "any": (by_question > 0).astype(np.float64),
    }
    table = np.stack(list(columns.values()), axis=1)

    def measure(counts: IntArray) -> Mapping[str, FloatArray]:
        means = counts @ table / traces.questions
        return {name: means[:, place] for place, name in enumerate(columns)}

    drawn = bootstrap(measure, traces.questions, settings.resamples, settings.seed)
    return {name: _estimate(float(values.mean()), drawn[name]) for name, values in columns.items()}


def _majority_right(traces: StudiedTraces) -> FloatArray:
    """Whether the most frequent answer of each question is right, ties to the one given first; [Q] of 0 and 1."""
    rows = np.flatnonzero(traces.answered)
    keys = np.stack([traces.question[rows], traces.answer_class[rows]], axis=1)
    votes, first, of = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    size = np.bincount(of.ravel(), minlength=len(votes))
    # Classes by question, the largest first and then the earliest: the first of each question wins.
    order = np.lexsort((first, -size, votes[:, 0]))
    question, places = np.unique(votes[order, 0], return_index=True)
    right = np.zeros(traces.questions)
    right[question] = traces.correct[rows[first[order[places]]]]
    return right
