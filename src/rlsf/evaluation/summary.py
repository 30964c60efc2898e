"""Outcomes to figures: the content of ``evaluation/summary.json``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from rlsf.errors import InputError
from rlsf.evaluation.bootstrap import bootstrap, percentile_interval, probability_of_improvement
from rlsf.evaluation.calibration import ece_if_calibrated, histogram, reliability
from rlsf.evaluation.config import EvaluationConfig, Mode
from rlsf.evaluation.groups import FloatArray
from rlsf.evaluation.metrics import Metrics, Sample, coverage_metric, higher_is_better
from rlsf.evaluation.modes import NO_CONFIDENCE
from rlsf.evaluation.outcomes import Outcome
from rlsf.evaluation.schema import Curves, Difference, ModeSummary, Settings, Summary
from rlsf.evaluation.selective import risk_coverage

LEVEL = 0.95

MODE_DEFINITIONS = {
    "greedy": "The branch of the likeliest first token, greedily continued; confidence is the signal's.",
    "cot_decoding": "The answered trace of K with the largest confidence; confidence is the signal's.",
    "cot_decoding_aggregate": "The answer of K traces with the largest summed confidence; confidence is that sum / K.",
    "majority": "The most frequent answer of K traces; confidence is its share of the K votes.",
    "turns": "The vote over k turns of a dialogue; confidence is the winner's share of the votes, or its sum / k.",
    "retry": "The attempt that was accepted, or the last one; confidence is the score by which it was judged.",
}


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One decoding mode: its figures, its metrics by flat name, and their bootstrap distributions."""

    summary: ModeSummary
    values: Mapping[str, float]
    distributions: Mapping[str, FloatArray]


def definitions(config: EvaluationConfig) -> dict[str, str]:
    """One line for every metric and every decoding mode evaluated."""
    metrics = {
        name: " ".join((field.description or "").split())
        for name, field in ModeSummary.model_fields.items()
        if name not in ("intervals", "curves")
    }
    modes = {
        mode: MODE_DEFINITIONS["cot_decoding_aggregate" if mode == "cot_decoding" and config.aggregate else mode]
        for mode in config.modes
    }
    return metrics | modes


def by_mode(outcomes: Sequence[Outcome], config: EvaluationConfig) -> dict[Mode, list[Outcome]]:
    """The outcomes of each mode of ``config``, sorted by question so that figures do not depend on row order.

    Raises ``InputError`` for a mode without outcomes or a question twice in a mode.
    """
    groups: dict[Mode, list[Outcome]] = {mode: [] for mode in config.modes}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.prompt_id):
        if outcome.mode in groups:
            groups[outcome.mode].append(outcome)
    for mode, group in groups.items():
        ids = [outcome.prompt_id for outcome in group]
        if not ids:
            raise InputError(f"no outcomes for mode {mode!r}: evaluate again, or leave it out of evaluation.modes")
        repeated = next((a for a, b in itertools.pairwise(ids) if a == b), None)
        if repeated is not None:
            raise InputError(f"question {repeated!r} has two outcomes for mode {mode!r}: question ids must be unique")
    return groups


def _nullable(value: float) -> float | None:
    return value if isfinite(value) else None


def measure_mode(outcomes: Sequence[Outcome], config: EvaluationConfig, seed: int) -> Measured:
    """Figures, intervals and curves of the outcomes of one decoding mode."""
    sample = Sample.of(outcomes)
    metrics = Metrics(sample, config.bins, config.coverages)
    values = metrics.values()
    distributions = bootstrap(metrics, len(outcomes), config.bootstrap, seed)
    intervals = {
        name: percentile_interval(distributions[name], LEVEL) if isfinite(value) else None
        for name, value in values.items()
    }
    flat = {name: _nullable(value) for name, value in values.items() if "." not in name}
    summary = ModeSummary.model_validate(
        {
            **flat,
            "n": len(outcomes),
            "ece_if_calibrated": ece_if_calibrated(sample.confidence, config.bins, seed=seed),
            "accuracy_at_coverage": {f"{c:g}": values[coverage_metric(c)] for c in config.coverages},
            "without_answer": sum(outcome.answer is None for outcome in outcomes),
            "without_confidence": sum(outcome.failure == NO_CONFIDENCE for outcome in outcomes),
            "truncated": sum(outcome.truncated for outcome in outcomes),
            "ungraded": sum(not outcome.graded for outcome in outcomes),
            "intervals": intervals,
            "curves": _curves(sample, config.bins),
        }
    )
    return Measured(summary, values, distributions)


def _curves(sample: Sample, bins: int) -> Curves:
    confidence, correct = sample.confidence, sample.correct
    return Curves.model_validate(
        {
            "reliability": [asdict(point) for point in reliability(confidence, correct, bins)],
            "risk_coverage": [asdict(point) for point in risk_coverage(confidence, correct)],
            "histogram": [asdict(point) for point in histogram(confidence, correct)],
        }
    )


def compare(before: Measured, after: Measured) -> dict[str, Difference]:
    """After less before by metric, both measured on the same questions with the same seed."""
    differences = {}
    for name, value in before.values.items():
        change = _nullable(after.values[name] - value)
        distribution = after.distributions[name] - before.distributions[name]
        better = higher_is_better(name)
        defined = change is not None
        differences[name] = Difference(
            value=change,
            interval=percentile_interval(distribution, LEVEL) if defined else None,
            probability_of_improvement=(
                probability_of_improvement(distribution, better) if defined and better is not None else None
            ),
        )
    return differences


def measure_modes(outcomes: Sequence[Outcome], config: EvaluationConfig, seed: int) -> dict[Mode, Measured]:
    """Each mode of ``config`` measured. Raises as ``by_mode`` does."""
    groups = by_mode(outcomes, config)
    return {mode: measure_mode(groups[mode], config, seed) for mode in config.modes}


def _same_questions(before: Sequence[Outcome], after: Sequence[Outcome], config: EvaluationConfig) -> None:
    for mode in config.modes:
        earlier, later = ({o.prompt_id for o in outcomes if o.mode == mode} for outcomes in (before, after))
        if earlier != later:
            example = min(earlier ^ later)
            raise InputError(
                f"mode {mode!r}: before and after were not measured on the same questions ({example!r} is in one only,"
                f" {len(earlier ^ later)} in all): evaluate both models on the same data"
            )


def summarise(
    before: Sequence[Outcome],
    after: Sequence[Outcome] | None,
    config: EvaluationConfig,
    signal: str,
    seed: int,
) -> dict[str, Any]:
    """The content of ``evaluation/summary.json``, JSON-safe: undefined figures are None, never NaN.

    Its schema is ``rlsf.evaluation.schema.Summary``. Raises ``InputError`` where the questions before and after
    differ, a question occurs twice, or a mode has no outcomes.
    """
    if after is not None:
        _same_questions(before, after, config)
    earlier = measure_modes(before, config, seed)
    later = None if after is None else measure_modes(after, config, seed)
    summary = Summary(
        schema_version=1,
        signal=signal,
        settings=Settings(
            bins=config.bins, coverages=config.coverages, resamples=config.bootstrap, level=LEVEL, seed=seed
        ),
        definitions=definitions(config),
        before={mode: earlier[mode].summary for mode in config.modes},
        after=None if later is None else {mode: later[mode].summary for mode in config.modes},
        difference=None if later is None else {mode: compare(earlier[mode], later[mode]) for mode in config.modes},
    )
    return summary.model_dump(mode="json")
