"""Preference pairs from the candidates of one prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlsf.preferences.candidates import Candidate
from rlsf.preferences.config import RankingConfig


@dataclass(frozen=True, slots=True)
class Pair:
    """One trace preferred over another of the same prompt."""

    chosen: Candidate
    rejected: Candidate

    @property
    def gap(self) -> float:
        """C_chosen - C_rejected, in (0, 1]."""
        return self.chosen.confidence - self.rejected.confidence

    @property
    def order(self) -> tuple[float, int, int]:
        """Sorts the largest gap first; ties go to the smaller trace indices."""
        return (-self.gap, self.chosen.trace.index, self.rejected.trace.index)


def margin(gap: float, kind: str) -> float:
    """The margin of a pair: exp(gap) in (1, e] (arXiv 2507.21931), the gap itself, or 0 for none."""
    return {"exponential": math.exp(gap), "gap": gap, "none": 0.0}[kind]


def pairs(ranked: Sequence[Candidate], config: RankingConfig) -> list[Pair]:
    """The pairs of one prompt, largest gap first, at most ``config.maximum_pairs_per_prompt`` of them.

    ``ranked`` holds distinct candidates, surest first. A pair (i, j) is possible where C_i >= threshold,
    C_i > C_j, C_i - C_j >= minimum gap, i may be chosen and, if so configured, the answers are not equivalent.
    ``all_pairs`` keeps every possible pair, ``best_versus_rest`` those of the surest trace that may be chosen,
    ``best_versus_worst`` of these the one with the least sure trace.
    """
    winners = [candidate for candidate in ranked if _may_win(candidate, config)]
    if config.rule != "all_pairs":
        winners = winners[:1]
    found = sorted(_possible(winners, ranked, config), key=lambda pair: pair.order)
    if config.rule == "best_versus_worst":
        return found[:1]
    return found[: config.maximum_pairs_per_prompt]


def _may_win(candidate: Candidate, config: RankingConfig) -> bool:
    return not candidate.rejected_only and candidate.confidence >= config.threshold


def _possible(winners: Sequence[Candidate], ranked: Sequence[Candidate], config: RankingConfig) -> Iterator[Pair]:
    for chosen in winners:
        for rejected in ranked:
            pair = Pair(chosen, rejected)
            if pair.gap <= 0.0 or pair.gap < config.minimum_gap:
                continue
            if config.different_answers and chosen.answer_class == rejected.answer_class:
                continue
            yield pair
