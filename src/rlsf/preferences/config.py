"""How traces of one prompt become preference pairs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlsf.config import Section


class RankingConfig(Section):
    """Which traces are compared, and how strongly one is preferred."""

    rule: Literal["all_pairs", "best_versus_rest", "best_versus_worst"] = "all_pairs"
    """``all_pairs``: every ordered pair, as in arXiv 2507.21931."""
    order: Literal["confidence", "random"] = "confidence"
    """``random``: a prompt's confidences are dealt out anew among its traces by chance (the run's seed), so that there
    are as many pairs, with the same gaps, and which trace is chosen means nothing: a bound to compare methods with."""
    threshold: float = Field(default=0.9, ge=0, le=1)
    """The chosen trace's confidence must reach this (inclusive)."""
    minimum_gap: float = Field(default=0.0, ge=0, le=1)
    """Drop pairs whose confidences differ by less; the order is strict even at 0."""
    different_answers: bool = False
    """Pair only traces whose answers differ."""
    maximum_pairs_per_prompt: int | None = Field(default=None, ge=1)
    """Keep the pairs with the largest gap; none: keep all."""
    aggregate_answers: bool = False
    """Rank by the answer's total confidence over the traces that share it (CoT-decoding's aggregated path), divided by
    the number of sampled traces: ``threshold`` and ``minimum_gap`` then refer to that share."""
    without_answer: Literal["drop", "reject"] = "drop"
    """Traces without an answer, or with one for which the signal has no confidence: left out, or eligible as the
    rejected side with confidence 0."""
    truncated: Literal["drop", "reject", "keep"] = "drop"
    """Traces cut at the token budget: left out, eligible as the rejected side only, or like any other."""
    margin: Literal["exponential", "gap", "none"] = "exponential"
    """``exponential``: exp(c_chosen - c_rejected), the paper's; ``gap``: the difference itself."""
