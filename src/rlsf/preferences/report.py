"""What ranking did: the counts that explain how many pairs came out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RankingReport:
    """Counts over prompts, traces and pairs. Reports of disjoint prompts add up.

    ``without_confidence`` counts the answered traces for which the signal has no value.
    ``ties`` counts the pairs of candidates with equal confidence. Every prompt without a pair has one reason:
    fewer than two traces to compare, none that reaches the threshold, or none told apart by confidence, gap and
    answer. ``mean_gap`` is the mean confidence gap of the pairs, None without any.
    """

    prompts: int = 0
    traces: int = 0
    without_answer: int = 0
    without_confidence: int = 0
    truncated: int = 0
    duplicates: int = 0
    ties: int = 0
    prompts_without_pairs: int = 0
    too_few_traces: int = 0
    below_threshold: int = 0
    undecided: int = 0
    pairs: int = 0
    mean_gap: float | None = None

    def __add__(self, other: RankingReport) -> RankingReport:
        pairs = self.pairs + other.pairs
        total_gap = self.pairs * (self.mean_gap or 0.0) + other.pairs * (other.mean_gap or 0.0)
        return RankingReport(
            prompts=self.prompts + other.prompts,
            traces=self.traces + other.traces,
            without_answer=self.without_answer + other.without_answer,
            without_confidence=self.without_confidence + other.without_confidence,
            truncated=self.truncated + other.truncated,
            duplicates=self.duplicates + other.duplicates,
            ties=self.ties + other.ties,
            prompts_without_pairs=self.prompts_without_pairs + other.prompts_without_pairs,
            too_few_traces=self.too_few_traces + other.too_few_traces,
            below_threshold=self.below_threshold + other.below_threshold,
            undecided=self.undecided + other.undecided,
            pairs=pairs,
            mean_gap=total_gap / pairs if pairs else None,
        )
