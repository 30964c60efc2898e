"""The content of ``signals.json``; the docstring under each field is its published definition."""

from __future__ import annotations

from typing import Literal

from rlsf.config import Section
from rlsf.evaluation.schema import HistogramCount, Interval


class Estimate(Section):
    """One figure with its 95 % percentile bootstrap over questions."""

    value: float | None
    """The figure; null where it is undefined (no right answer, no wrong one, no such pair)."""
    interval: Interval
    """Its interval; null where it is undefined."""


class KindFigures(Section):
    """A signal on the answered traces of one kind."""

    auroc: float | None
    """AUROC of right against wrong among them; null where all are right or all wrong."""
    mean_right: float | None
    """Mean confidence of the right ones; null where there is none."""
    mean_wrong: float | None
    """Mean confidence of the wrong ones; null where there is none."""
    saturated_right: float | None
    """Share of the right ones with a confidence of at least ``saturation``."""
    saturated_wrong: float | None
    """Share of the wrong ones with a confidence of at least ``saturation``."""
    histogram: tuple[HistogramCount, ...]
    """Right and wrong traces by confidence, 20 bins of equal width."""


class SignalFigures(Section):
    """One signal."""

    figures: dict[str, Estimate]
    """Every measure by name; ``definitions`` says what each is."""
    kinds: dict[str, KindFigures]
    """The same signal on the traces of each kind, kinds as in ``kinds``."""
    without_confidence: int
    """Answered traces for which the signal has no value; they count with confidence 0."""


class KindCounts(Section):
    """How many answered traces are of a kind, and how many of them are right."""

    traces: int
    right: int


class Contrast(Section):
    """A signal less the best one in a measure, on the same questions."""

    value: float | None
    """The difference; null where either is undefined."""
    interval: Interval
    """95 % percentile interval of the paired bootstrap, not corrected."""
    p: float | None
    """Two-sided p value of no difference: the normal one of value over its bootstrap standard error."""
    p_holm: float | None
    """The same after Holm's correction over all pairs of signals: it holds although the best was chosen here."""
    separated: bool
    """Whether p_holm is below 0.05 and the interval excludes zero."""


class Ranking(Section):
    """Which signal is best in a measure, and which are told apart from it."""

    best: str
    """The signal with the best figure; of equal ones the first."""
    differences: dict[str, Contrast]
    """Every other signal less the best one, from the better to the worse."""

    @property
    def alike(self) -> list[str]:
        """The best signal and those that these questions do not separate from it."""
        return [self.best, *(name for name, one in self.differences.items() if not one.separated)]


class StudySettings(Section):
    """What the figures depend on besides the traces."""

    direct_tokens: int = 10
    """Tokens before the answer that a direct trace has at most."""
    saturation: float = 0.99
    """Confidence from which on a trace counts as saturated."""
    tie: float = 0.01
    """Difference of confidence up to which two traces count as tied."""
    bins: int = 10
    """Bins of the expected calibration error."""
    resamples: int = 2000
    """Bootstrap resamples of the questions."""
    seed: int = 0
    """Seed of the bootstrap."""


class SignalStudy(Section):
    """The content of ``signals.json``."""

    schema_version: Literal[1] = 1
    """Changes when a key changes its meaning or goes."""
    settings: StudySettings
    """What the figures depend on besides the traces."""
    definitions: dict[str, str]
    """One line for every measure."""
    questions: int
    """Number of questions."""
    traces: int
    """Number of traces."""
    answered: int
    """Traces with an answer: those that signals are measured on."""
    ungraded: int
    """Answers that could not be graded in time: wrong."""
    accuracy: dict[str, Estimate]
    """Shares of the questions answered rightly: ``trace`` (a trace picked at random), ``greedy`` (null unless the first
    trace is greedy), ``majority`` (the most frequent answer, ties to the earlier one), ``any`` (at least one trace)."""
    kinds: dict[str, KindCounts]
    """The answered traces by kind: direct or worked, with a computed or a copied answer."""
    signals: dict[str, SignalFigures]
    """Every signal by name."""
    rankings: dict[str, Ranking]
    """Which signal is best in each measure, where at least two have the figure."""
    advice: str
    """Which signal to trust, in one sentence; it names no winner that the questions do not separate."""
