"""The content of ``comparison.json``; the docstring under each field is its published definition."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlsf.config import Section
from rlsf.evaluation.config import Mode
from rlsf.evaluation.schema import Interval, ReliabilityPoint

Kind = Literal["start", "self-feedback", "labelled", "bound"]


class Asked(Section):
    """What was asked for."""

    name: str = "comparison"
    """Name of the comparison."""
    model: str = ""
    """The model that every method starts from."""
    data: str = ""
    """The questions that methods learn from."""
    measured_on: str = ""
    """The questions that methods are measured on."""
    seeds: tuple[int, ...] = ()
    """Seeds of the runs of each method."""
    generated_tokens: int | None = None
    """Most tokens a run may sample in order to learn; null for no limit."""
    training_tokens: int | None = None
    """Most tokens a run may train on, repetitions counted; null for no limit."""
    settings: dict[str, str] = Field(default_factory=dict)
    """Settings given to every method, by key of the recipe."""
    command: str | None = None
    """The command that was given; null where the comparison was not made by one."""


class FailedSeed(Section):
    """A run that has no figures."""

    seed: int
    """Seed of the run."""
    reason: str
    """Why it failed."""


class Figure(Section):
    """One figure of one method: the mean of its runs."""

    value: float | None
    """Mean over seeds of the figure of each run; null where it is undefined in all."""
    interval: Interval
    """95 % interval of that mean: two-level bootstrap over questions and seeds (for entropy: Student's, over seeds);
    null where undefined."""
    by_seed: dict[int, float | None]
    """The figure of each run, by seed; null where undefined."""


class Contrast(Section):
    """A difference of one figure between two methods, on the same questions."""

    value: float | None
    """The difference; null where either figure is."""
    interval: Interval
    """Its 95 % interval; it excludes zero exactly where p is below 0.05, before it is cut to the figure's range."""
    p: float | None
    """Two-sided p value of no difference, uncorrected; null where the difference is."""


class PairContrast(Contrast):
    """A difference between two methods, one of all pairs."""

    first: str
    """Recipe of the one method."""
    second: str
    """Recipe of the other; the difference is the second's figure less the first's."""
    p_holm: float | None
    """The p value after Holm's correction over all pairs of methods in this metric; null where p is."""


class CostPoint(Section):
    """What had been spent at one moment of a run, and how good it was then."""

    step: int
    """Optimiser steps."""
    generated_tokens: int
    """Tokens sampled in order to learn."""
    training_tokens: int
    """Tokens trained on, repetitions counted."""
    seconds: float
    """Seconds of learning."""
    accuracy: float
    """Accuracy of the policy at that moment, in [0, 1]."""


class MethodSummary(Section):
    """One method: what it is, what it reached and what it spent."""

    recipe: str
    """Name of the recipe; the model as given is called before."""
    title: str
    """What the method does, in one line."""
    kind: Kind
    """start: the model as given. self-feedback: learns without gold answers. labelled: learns from gold answers. bound:
    an upper or lower bound that the others are read against."""
    needs_labels: bool
    """Whether it learns from gold answers."""
    mode: Mode
    """How its answers are decoded when it is measured."""
    seeds: tuple[int, ...]
    """Seeds of the runs that were measured."""
    failed: tuple[FailedSeed, ...]
    """Runs without figures; they are in no mean."""
    n: int
    """Number of questions of each run; 0 where all runs failed."""
    figures: dict[str, Figure]
    """accuracy, ece, brier, auroc, aurc, mean_tokens and, where it was measured, entropy; empty where all runs
    failed."""
    ece_if_calibrated: float | None
    """Mean ECE that the confidences of a run would show were they perfectly calibrated: the noise floor of ece."""
    against_reference: dict[str, Contrast] | None
    """The method less the model as given under the same decoding, by metric; null where that was not measured."""
    reliability: tuple[ReliabilityPoint, ...]
    """Accuracy against confidence, the answers of all runs together; Wilson's intervals count a question once."""
    spent: dict[str, float]
    """Mean over the measured runs of what each spent, by name: tokens, steps and seconds."""
    curves: dict[int, tuple[CostPoint, ...]]
    """Accuracy by cost of each run, by seed, in the order of the run; its end where nothing else was measured."""


class ComparisonSettings(Section):
    """What the figures depend on besides the outcomes."""

    bins: int
    """Bins of the expected calibration error and of the reliability diagrams."""
    resamples: int
    """Bootstrap resamples."""
    level: float
    """Level of every interval."""
    seed: int
    """Seed of the bootstrap."""


class Comparison(Section):
    """The content of ``comparison.json``."""

    schema_version: Literal[1]
    """Changes when a key changes its meaning or goes."""
    asked: Asked
    """What was asked for."""
    settings: ComparisonSettings
    """What the figures depend on besides the outcomes."""
    definitions: dict[str, str]
    """One line for every figure."""
    methods: tuple[MethodSummary, ...]
    """The methods in the order given; the model as given comes first."""
    pairs: dict[str, tuple[PairContrast, ...]]
    """Differences between all pairs of measured methods in accuracy, ece and brier, by metric."""
