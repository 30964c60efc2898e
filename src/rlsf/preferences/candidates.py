"""Which traces of a prompt are compared, with what confidence, and on which side of a pair they may stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlsf.answers import group_answers
from rlsf.errors import InputError
from rlsf.preferences.config import RankingConfig
from rlsf.traces import Trace


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trace that takes part in the ranking.

    ``confidence`` is what is ranked; ``own_confidence`` is the trace's own, which differs from it only where
    answers are aggregated, or traces ranked at random. ``answer_class`` numbers the distinct answers of a prompt,
    where they matter; None is no answer. ``rejected_only`` traces are never the chosen side.
    """

    trace: Trace
    confidence: float
    own_confidence: float
    answer_class: int | None = None
    rejected_only: bool = False

    @property
    def order(self) -> tuple[float, float, int]:
        """Sorts the surest first; ties go to the trace's own confidence, then to its index."""
        return (-self.confidence, -self.own_confidence, self.trace.index)


def candidates(
    traces: Sequence[Trace], confidences: Sequence[float | None], config: RankingConfig
) -> tuple[list[Candidate], int]:
    """The candidates of one prompt, surest first, and how many further traces repeat a candidate's tokens.

    A trace without an answer, or without a confidence in it, is left out or has confidence 0 and is rejected only; a
    truncated trace is left out, rejected only, or like any other, as ``config`` says; where both hold the stricter rule
    wins. Raises ``InputError`` for a confidence outside [0, 1].
    """
    found = [_candidate(trace, confidence, config) for trace, confidence in zip(traces, confidences, strict=True)]
    kept = [candidate for candidate in found if candidate is not None]
    if config.different_answers or config.aggregate_answers:
        kept = _with_answer_classes(kept)
    if config.aggregate_answers:
        kept = _aggregated(kept, len(traces))
    kept.sort(key=lambda candidate: candidate.order)
    distinct = {}
    for candidate in kept:
        distinct.setdefault(tuple(candidate.trace.token_ids.tolist()), candidate)
    return list(distinct.values()), len(kept) - len(distinct)


def _candidate(trace: Trace, confidence: float | None, config: RankingConfig) -> Candidate | None:
    if confidence is not None and not 0.0 <= confidence <= 1.0:
        raise InputError(f"trace {trace.trace_id} has confidence {confidence}: confidences lie in [0, 1]")
    if trace.truncated and config.truncated == "drop":
        return None
    if trace.answer is None or confidence is None:
        return Candidate(trace, 0.0, 0.0, rejected_only=True) if config.without_answer == "reject" else None
    return Candidate(trace, confidence, confidence, rejected_only=trace.truncated and config.truncated == "reject")


def _with_answer_classes(kept: Sequence[Candidate]) -> list[Candidate]:
    answers = [candidate.trace.answer for candidate in kept]
    classes = group_answers([None if answer is None else answer.text for answer in answers])
    class_of = {index: number for number, members in enumerate(classes) for index in members}
    return [replace(candidate, answer_class=class_of.get(index)) for index, candidate in enumerate(kept)]


def _aggregated(kept: Sequence[Candidate], traces: int) -> list[Candidate]:
    """Each answer's total confidence over the traces that may be chosen, divided by the number of sampled traces.

    arXiv 2402.10200, section 2.3: the answer with the largest sum wins. The division keeps the sum in [0, 1]; a
    trace left out, rejected or without an answer votes for nothing and so lowers it.
    """
    votes: dict[int | None, list[float]] = {}
    for candidate in kept:
        votes.setdefault(candidate.answer_class, [])
        if not candidate.rejected_only:
            votes[candidate.answer_class].append(candidate.own_confidence)
    # The exact sum does not depend on the order of the traces.
    totals = {answer_class: math.fsum(shares) / traces for answer_class, shares in votes.items()}
    return [replace(candidate, confidence=totals[candidate.answer_class]) for candidate in kept]
