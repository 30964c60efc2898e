"""Which traces of a prompt are compared, with what confidence, and on which side of a pair they may stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlsf.errors import InputError
from rlsf.preferences.config import RankingConfig
from rlsf.traces import Trace


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trace that takes part in the ranking.

    ``confidence`` is what is ranked; ``own_confidence`` is the trace's own, which differs from it only where
    answers are aggregated. ``rejected_only`` traces are never the chosen side.
    """

    trace: Trace
    confidence: float
    own_confidence: float
    rejected_only: bool = False

    @property
    def answer(self) -> str | None:
        return None if self.trace.answer is None else self.trace.answer.text

    @property
    def order(self) -> tuple[float, float, int]:
        """Sorts the surest first; ties go to the trace's own confidence, then to its index."""
        return (-self.confidence, -self.own_confidence, self.trace.index)


def candidates(
    traces: Sequence[Trace], confidences: Sequence[float | None], config: RankingConfig
) -> tuple[list[Candidate], int]:
    """The candidates of one prompt, surest first, and how many further traces repeat a candidate's tokens.

    A trace without an answer is left out or has confidence 0 and is rejected only; a truncated trace is left out,
    rejected only, or like any other, as ``config`` says; where both hold the stricter rule wins. Raises
    ``InputError`` for a confidence outside [0, 1], and for a trace with an answer but without a confidence.
    """
    kept = []
    for trace, confidence in zip(traces, confidences, strict=True):
        candidate = _candidate(trace, confidence, config)
        if candidate is not None:
            kept.append(candidate)
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
    if trace.answer is not None and confidence is None:
        raise InputError(f"trace {trace.trace_id} has an answer but no confidence: apply a signal to it first")
    if trace.truncated and config.truncated == "drop":
        return None
    if trace.answer is None or confidence is None:
        return Candidate(trace, 0.0, 0.0, rejected_only=True) if config.without_answer == "reject" else None
    return Candidate(trace, confidence, confidence, rejected_only=trace.truncated and config.truncated == "reject")


def _aggregated(kept: Sequence[Candidate], traces: int) -> list[Candidate]:
    """Each answer's total confidence over the traces that may be chosen, divided by the number of sampled traces.

    arXiv 2402.10200, section 2.3: the answer with the largest sum wins. The division keeps the sum in [0, 1]; a
    trace left out, rejected or without an answer votes for nothing and so lowers it.
    """
    votes: dict[str | None, list[float]] = {}
    for candidate in kept:
        votes.setdefault(candidate.answer, [])
        if not candidate.rejected_only:
            votes[candidate.answer].append(candidate.own_confidence)
    # The exact sum does not depend on the order of the traces.
    totals = {answer: math.fsum(shares) / traces for answer, shares in votes.items()}
    return [replace(candidate, confidence=totals[candidate.answer]) for candidate in kept]
