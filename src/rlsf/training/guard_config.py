"""When self-rewarded training has collapsed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlsf.training.config import SelectionConfig


class GuardConfig(SelectionConfig):
    """Label-free choice of the checkpoint, and alarms that end a training that has collapsed.

    Each limit is meant to be out of reach of a training that works; None switches its alarm off. The start is the first
    batch of rollouts for rollouts, the first probe for probes.
    """

    every: int = Field(default=10, ge=1)
    """Optimiser steps between probes. Rewards of the policy's own sureness are published to help for some 20 steps and
    to harm within 80 (arXiv 2506.17219): sparser probes would miss the peak."""
    patience: int | None = Field(default=4, ge=1)
    """Stop after this many probes without a better one; none: train until the end or an alarm, keep the best."""
    keep: Literal["best", "last"] = "best"
    """Which policy is kept: that of the probe with the best agreement, or, for rewards that know the right answers, the
    last one, unless an alarm rings: then the best as well. Patience counts for ``best`` alone."""
    signal: str | None = None
    """The confidence signal by which the start's surest answers are chosen; none: the recipe's."""
    persistence: int = Field(default=5, ge=1)
    """Batches of rollouts in a row that must be past a limit before training stops: one batch has few prompts and is
    noisy. Probes are of more prompts, always the same, decoded greedily: one is enough."""
    entropy_floor: float | None = Field(default=0.1, gt=0, lt=1)
    """Least part of the start's entropy, of rollouts. Training that works lowers entropy too, and accuracy follows
    R = b - a e^H (arXiv 2505.22617): at a tenth of the start's H less than a tenth of what it can gain is left,
    whatever a and b."""
    length_limit: float | None = Field(default=3.0, gt=1)
    """Completions this many times as long, or as short, as at the start. A policy that learns to work problems out
    writes more and one that learns to stop writes less, so that length counts only while the last probe agrees less
    than the start, by more than a standard error of the difference."""
    truncated_limit: float | None = Field(default=0.5, gt=0, le=1)
    """Rise of the share of completions cut at the token budget: half of them have stopped ending."""
    repetition_limit: float | None = Field(default=0.3, gt=0, le=1)
    """Rise of the share of repeated 4-grams: a third more of each completion says nothing new."""
    without_answer_limit: float | None = Field(default=0.5, gt=0, le=1)
    """Rise of the share of completions without an answer; a reward of sureness does not ask for one."""
    commonest_answer_limit: float | None = Field(default=0.3, gt=0, le=1)
    """Rise of the share of prompts that get the commonest answer of all. Two equally likely answers to 16 prompts rise
    so far by chance in one batch of 47, but not in several in a row; where answers are all different, one answer for
    every third prompt does."""
    zero_variance_limit: float | None = Field(default=0.98, gt=0, le=1)
    """Share of groups whose rewards are all equal, which have no gradient: not one group in fifty is left to learn
    from. With very few prompts a step this can happen by chance; raise ``persistence`` there."""
    agreement_drop: float | None = Field(default=0.1, gt=0, le=1)
    """Fall of a probe's agreement below the best probe's; never less than three standard errors of a difference, 3
    sqrt(2 p (1 - p) / n) for n prompts of which the best probe agrees on p: 26 points for 64 prompts at 60 %, 13 for
    256. A slower decline is a matter for ``patience``."""
