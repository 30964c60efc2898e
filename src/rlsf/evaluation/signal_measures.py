"""Every measure of one signal, computed for the questions themselves or for resamples of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rlsf.evaluation.calibration import grouped_ece
from rlsf.evaluation.groups import ConfidenceGroups, FloatArray, Grouping, IntArray
from rlsf.evaluation.selective import grouped_aurc, grouped_auroc
from rlsf.evaluation.signal_schema import StudySettings
from rlsf.evaluation.studied_traces import BoolArray, StudiedTraces


class Measure(NamedTuple):
    """What is measured of a signal; ``higher_is_better`` is None where it ranks no signals."""

    title: str
    higher_is_better: bool | None
    definition: str


_RIGHTLY = "of all pairs of a right and a wrong trace, the share whose right one is surer, ties half"
#: Over answered traces unless they speak of the surest.
MEASURES: dict[str, Measure] = {
    "auroc": Measure("AUROC", True, f"AUROC of right against wrong answered traces: {_RIGHTLY}."),
    "aurc": Measure(
        "AURC",
        False,
        "Area under the risk-coverage curve of the answered traces: the share of wrong ones among the surest, averaged"
        " over how many of them are kept; ties averaged, lower is better.",
    ),
    "within_question": Measure(
        "Within a question", True, "Of all pairs of a right and a wrong trace of the same question, that share."
    ),
    "direct": Measure("Direct", True, "AUROC among traces whose answer comes within the first few tokens."),
    "worked": Measure("Worked", True, "AUROC among traces with reasoning before the answer."),
    "across_reasoning": Measure(
        "Direct against worked",
        True,
        "Of all pairs of a right and a wrong trace, one direct and one worked, that share.",
    ),
    "computed": Measure("Computed", True, "AUROC among traces that do not say the answer before its span."),
    "copied": Measure("Copied", True, "AUROC among traces that say the answer before its span already."),
    "across_copying": Measure(
        "Computed against copied",
        True,
        "Of all pairs of a right and a wrong trace, one with a computed and one with a copied answer, that share.",
    ),
    "surest_accuracy": Measure(
        "Surest right",
        True,
        "Accuracy of the surest answered trace of each question, ties to the first; none answered is wrong.",
    ),
    "surest_ece": Measure(
        "ECE of the surest",
        False,
        "Expected calibration error of those: how far confidence is from accuracy, averaged over bins of confidence;"
        " without an answer confidence is 0. Lower is better.",
    ),
    "saturated": Measure("Saturated", None, "Share of the answered traces with a confidence of at least saturation."),
    "saturated_wrong": Measure("Saturated, wrong", None, "The same share among wrong traces."),
    "tied": Measure(
        "Tied",
        None,
        "Of the questions with at least two different answers, the share whose surest trace is ahead of the surest one"
        " with another answer by no more than tie.",
    ),
}
#: Measures by which signals are ranked.
RANKED = tuple(name for name, measure in MEASURES.items() if measure.higher_is_better is not None)


@dataclass(frozen=True, slots=True, eq=False)
class _Scope:
    """Some of the traces, grouped by confidence."""

    question: IntArray
    grouping: Grouping | None

    @classmethod
    def of(cls, traces: StudiedTraces, values: FloatArray, inside: BoolArray) -> _Scope:
        grouping = Grouping(values[inside], traces.correct[inside]) if inside.any() else None
        return cls(traces.question[inside], grouping)

    def groups(self, counts: IntArray) -> ConfidenceGroups | None:
        """The traces of resamples with ``counts`` [b, Q] of each question; None where there are none."""
        return None if self.grouping is None else self.grouping.groups(counts[:, self.question])


class SignalMeasures:
    """The measures of one signal as a function of how often each question counts."""

    def __init__(self, traces: StudiedTraces, name: str, settings: StudySettings) -> None:
        values = np.nan_to_num(traces.confidence[name], nan=0.0)
        answered, worked, copied = traces.answered, traces.worked, traces.copied
        self.bins = settings.bins
        self.scopes = {
            scope: _Scope.of(traces, values, answered & inside)
            for scope, inside in {
                "auroc": answered,
                "direct": ~worked,
                "worked": worked,
                "computed": ~copied,
                "copied": copied,
            }.items()
        }
        first, second = surest_two(traces, traces.confidence[name])
        found = first >= 0
        confidence = np.where(found, values[first], 0.0)
        correct = np.where(found, traces.correct[first], False)
        self.surest = Grouping(confidence, correct)
        disputed = second >= 0
        tied = disputed & (confidence - values[second] <= settings.tie + 1e-12)
        saturated = answered & (values >= settings.saturation)
        wrong = answered & ~traces.correct
        won, pairs = pairs_within(traces, values)
        #: Numerators and denominators of each question, [Q] each.
        self.ratios: dict[str, tuple[FloatArray, FloatArray]] = {
            "within_question": (won, pairs),
            "surest_accuracy": (correct.astype(np.float64), np.ones(traces.questions)),
            "saturated": (_per_question(traces, saturated), _per_question(traces, answered)),
            "saturated_wrong": (_per_question(traces, saturated & wrong), _per_question(traces, wrong)),
            "tied": (tied.astype(np.float64), disputed.astype(np.float64)),
        }

    def __call__(self, counts: IntArray) -> dict[str, FloatArray]:
        """Each measure of resamples with ``counts`` [b, Q]: values [b], NaN where undefined."""
        whole = self.scopes["auroc"].groups(counts)
        found = {"auroc": _auroc(whole, len(counts))}
        found |= {
            name: _auroc(self.scopes[name].groups(counts), len(counts)) for name in self.scopes if name != "auroc"
        }
        return {
            **{scope: auroc for scope, (auroc, _) in found.items()},
            "aurc": np.full(len(counts), np.nan) if whole is None else grouped_aurc(whole),
            "across_reasoning": _across(*(found[scope] for scope in ("auroc", "direct", "worked"))),
            "across_copying": _across(*(found[scope] for scope in ("auroc", "computed", "copied"))),
            **{name: _ratio(counts @ won, counts @ pairs) for name, (won, pairs) in self.ratios.items()},
            "surest_ece": grouped_ece(self.surest.groups(counts), self.bins),
        }


#: AUROC and the number of pairs of right and wrong traces that it is of, [b] each.
_Won = tuple[FloatArray, FloatArray]


def _auroc(groups: ConfidenceGroups | None, resamples: int) -> _Won:
    if groups is None:
        return np.full(resamples, np.nan), np.zeros(resamples)
    return grouped_auroc(groups), groups.correct.sum(axis=-1).astype(np.float64) * groups.wrong.sum(axis=-1)


def _across(whole: _Won, *parts: _Won) -> FloatArray:
    """The share of pairs ordered rightly among those of all that are in none of the parts."""
    won, pairs = (np.nan_to_num(whole[0], nan=0.0) * whole[1], whole[1])
    for auroc, count in parts:
        won = won - np.nan_to_num(auroc, nan=0.0) * count
        pairs = pairs - count
    return _ratio(won, pairs)


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _per_question(traces: StudiedTraces, inside: BoolArray) -> FloatArray:
    return np.bincount(traces.question[inside], minlength=traces.questions).astype(np.float64)


def pairs_within(traces: StudiedTraces, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pairs of a right and a wrong answered trace of the same question: those ordered rightly (ties half), and all.

    [Q] each. Equal confidences of a question are taken together, so that no order among them matters.
    """
    inside = np.flatnonzero(traces.answered)
    inside = inside[np.lexsort((values[inside], traces.question[inside]))]
    question, ordered = traces.question[inside], values[inside]
    if not len(inside):
        return np.zeros(traces.questions), np.zeros(traces.questions)
    new = np.concatenate([[True], (np.diff(question) > 0) | (np.diff(ordered) > 0)])
    starts = np.flatnonzero(new)
    right = np.add.reduceat(traces.correct[inside].astype(np.float64), starts)
    wrong = np.add.reduceat(1.0 - traces.correct[inside], starts)
    of = question[starts]
    less_sure = np.cumsum(wrong) - wrong
    opening = np.concatenate([[True], np.diff(of) > 0])
    less_sure -= less_sure[opening][np.cumsum(opening) - 1]
    rights, wrongs, won = (
        np.bincount(of, weights=one, minlength=traces.questions).astype(np.float64)
        for one in (right, wrong, right * (less_sure + 0.5 * wrong))
    )
    return won, rights * wrongs


def surest_two(traces: StudiedTraces, confidence: FloatArray) -> tuple[IntArray, IntArray]:
    """Rows of each question's surest answered trace and of the surest one with another answer, [Q] each, -1 for none.

    Ties go to the first trace; a trace for which the signal has no value comes after all that have one.
    """
    sureness = np.nan_to_num(confidence, nan=-1.0)
    rows = np.flatnonzero(traces.answered)
    rows = rows[np.lexsort((traces.index[rows], -sureness[rows], traces.question[rows]))]
    first = _first_of_each(traces, rows)
    other = traces.answer_class[rows] != traces.answer_class[first[traces.question[rows]]]
    return first, _first_of_each(traces, rows[other])


def _first_of_each(traces: StudiedTraces, rows: IntArray) -> IntArray:
    """The first of ``rows``, which are sorted by question, of each question; -1 where it has none."""
    found = np.full(traces.questions, -1, np.int64)
    question, places = np.unique(traces.question[rows], return_index=True)
    found[question] = rows[places]
    return found
