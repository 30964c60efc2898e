"""Methods against each other: the content of ``comparison.json``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import inf, isfinite, nan, sqrt

import numpy as np

from rlsf.errors import InputError
from rlsf.evaluation.calibration import ece_if_calibrated, reliability, wilson_interval
from rlsf.evaluation.comparison_schema import (
    Asked,
    Comparison,
    ComparisonSettings,
    Contrast,
    CostPoint,
    FailedSeed,
    Figure,
    MethodSummary,
    PairContrast,
)
from rlsf.evaluation.config import EvaluationConfig
from rlsf.evaluation.contrasts import contrast
from rlsf.evaluation.method_outcomes import (
    CurvePoint,
    MethodOutcomes,
    measured_runs,
    reference_name,
    same_questions,
)
from rlsf.evaluation.metrics import Metrics, Sample
from rlsf.evaluation.multiple import holm
from rlsf.evaluation.schema import ModeSummary, ReliabilityPoint
from rlsf.evaluation.summary import LEVEL
from rlsf.evaluation.two_level import TwoLevel, quantile, resample_questions, two_level

#: Figures of every method with the largest value that each can take.
FIGURES = {"accuracy": 1.0, "ece": 1.0, "brier": 1.0, "auroc": 1.0, "aurc": 1.0, "mean_tokens": inf}
#: Figures in which all pairs of methods are compared.
COMPARED = ("accuracy", "ece", "brier")
ENTROPY = "Mean entropy of the next-token distribution along the traces, in nats."


def compare_methods(
    methods: Sequence[MethodOutcomes], config: EvaluationConfig, seed: int, asked: Asked | None = None
) -> Comparison:
    """The figures of every method and the differences between all pairs; the first method is the model as given.

    Of ``config`` the bins and the number of resamples count. Neither the order of questions nor of seeds changes
    anything, that of methods the sign of their differences only. Raises ``InputError`` where no run was measured, a
    recipe is there twice, or two runs were measured on different questions.
    """
    repeated = [name for name, group in itertools.groupby(sorted(one.recipe for one in methods)) if len([*group]) > 1]
    if repeated:
        raise InputError(f"the recipe {repeated[0]!r} is compared with itself: name every recipe once")
    runs = dict(measured_runs(methods))
    samples = {run: Sample.of(outcomes) for run, outcomes in runs.items()}
    questions = same_questions(runs)
    measures = {run: Metrics(sample, config.bins) for run, sample in samples.items()}
    drawn = resample_questions(measures, questions, config.bootstrap, seed)
    values = {run: metrics.values() for run, metrics in measures.items()}
    levels: dict[str, dict[str, TwoLevel]] = {}
    for name in dict.fromkeys(name for name, _ in runs):
        own = [run for run in runs if run[0] == name]
        levels[name] = {
            metric: two_level(name, [values[run][metric] for run in own], [drawn[run][metric] for run in own], seed)
            for metric in FIGURES
        }
    summaries = [_method(one, levels, samples, questions, config.bins) for one in methods]
    return Comparison(
        schema_version=1,
        asked=asked or Asked(),
        settings=ComparisonSettings(bins=config.bins, resamples=config.bootstrap, level=LEVEL, seed=seed),
        definitions=_definitions(summaries),
        methods=tuple(summaries),
        pairs={
            metric: _pairs([one.recipe for one in methods if one.recipe in levels], levels, metric, questions)
            for metric in COMPARED
        },
    )


def _method(
    method: MethodOutcomes,
    levels: Mapping[str, Mapping[str, TwoLevel]],
    samples: Mapping[tuple[str, int], Sample],
    questions: int,
    bins: int,
) -> MethodSummary:
    seeds = tuple(sorted(method.outcomes))
    own = [samples[method.recipe, seed] for seed in seeds]
    measured, reference = levels.get(method.recipe), levels.get(reference_name(method.recipe))
    figures = {} if measured is None else _figures(measured, seeds)
    if method.entropy and figures:
        figures["entropy"] = _over_seeds({seed: method.entropy.get(seed) for seed in seeds})
    return MethodSummary(
        **{name: getattr(method, name) for name in ("recipe", "title", "kind", "needs_labels", "mode")},
        seeds=seeds,
        failed=tuple(FailedSeed(seed=seed, reason=reason) for seed, reason in sorted(method.failed.items())),
        n=questions if seeds else 0,
        figures=figures,
        ece_if_calibrated=_noise_floor(own, bins),
        against_reference=(
            None
            if measured is None or reference is None
            else {name: _contrast(name, reference, measured, questions) for name in COMPARED}
        ),
        reliability=_reliability(own, bins),
        spent=_mean_spent([method.spent[seed] for seed in seeds if seed in method.spent]),
        curves={seed: _curve(method, seed, figures["accuracy"].by_seed[seed]) for seed in seeds},
    )


def _figures(measured: Mapping[str, TwoLevel], seeds: Sequence[int]) -> dict[str, Figure]:
    return {
        metric: Figure(
            value=_nullable(measured[metric].value),
            interval=measured[metric].interval(0.0, largest),
            by_seed={seed: _nullable(float(one)) for seed, one in zip(seeds, measured[metric].by_seed, strict=True)},
        )
        for metric, largest in FIGURES.items()
    }


def _over_seeds(by_seed: Mapping[int, float | None]) -> Figure:
    """A figure that is one number a run: Student's interval over the seeds, none for a single one."""
    known = [value for value in by_seed.values() if value is not None and isfinite(value)]
    mean = float(np.mean(known)) if known else nan
    reach = quantile(len(known) - 1) * float(np.std(known, ddof=1)) / sqrt(len(known)) if len(known) > 1 else None
    return Figure(
        value=_nullable(mean),
        interval=None if reach is None else (max(0.0, mean - reach), mean + reach),
        by_seed={seed: None if value is None else _nullable(value) for seed, value in by_seed.items()},
    )


def _contrast(metric: str, first: Mapping[str, TwoLevel], second: Mapping[str, TwoLevel], questions: int) -> Contrast:
    """Accuracy moves by one answer of one run; the other figures are continuous."""
    runs = max(first[metric].seeds, second[metric].seeds)
    step = 2 / (questions * runs) if metric == "accuracy" and runs else 0.0
    return contrast(first[metric], second[metric], questions, step)


def _pairs(
    names: Sequence[str], levels: Mapping[str, Mapping[str, TwoLevel]], metric: str, questions: int
) -> tuple[PairContrast, ...]:
    pairs = [(a, b, _contrast(metric, levels[a], levels[b], questions)) for a, b in itertools.combinations(names, 2)]
    corrected = holm([one.p for _, _, one in pairs])
    return tuple(
        PairContrast(first=a, second=b, p_holm=p_holm, **one.model_dump())
        for (a, b, one), p_holm in zip(pairs, corrected, strict=True)
    )


def _reliability(samples: Sequence[Sample], bins: int) -> tuple[ReliabilityPoint, ...]:
    """The answers of all runs in one diagram; its intervals count a question once, however many runs answered it."""
    if not samples:
        return ()
    confidence = np.concatenate([sample.confidence for sample in samples])
    correct = np.concatenate([sample.correct for sample in samples])
    runs = len(samples)
    points = [
        replace(one, interval=wilson_interval((one.accuracy or 0.0) * one.count / runs, one.count / runs))
        for one in reliability(confidence, correct, bins)
    ]
    return tuple(ReliabilityPoint.model_validate(asdict(point)) for point in points)


def _noise_floor(samples: Sequence[Sample], bins: int) -> float | None:
    floors = [ece_if_calibrated(sample.confidence, bins) for sample in samples]
    return float(np.mean(floors)) if floors else None


def _mean_spent(spent: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in spent for name in one)
    return {name: float(np.mean([one[name] for one in spent if name in one])) for name in names}


def _curve(method: MethodOutcomes, seed: int, accuracy: float | None) -> tuple[CostPoint, ...]:
    points = method.curve.get(seed) or ()
    if not points and accuracy is not None:
        spent = method.spent.get(seed, {})
        names = ("optimiser_steps", "generated_tokens", "training_tokens")
        step, generated, trained = (int(spent.get(name, 0)) for name in names)
        points = [CurvePoint(step, generated, trained, float(spent.get("seconds_learning", 0.0)), accuracy)]
    return tuple(CostPoint.model_validate(asdict(point)) for point in points)


def _definitions(methods: Sequence[MethodSummary]) -> dict[str, str]:
    lines = {name: " ".join((ModeSummary.model_fields[name].description or "").split()) for name in FIGURES}
    return lines | ({"entropy": ENTROPY} if any("entropy" in method.figures for method in methods) else {})


def _nullable(value: float) -> float | None:
    return value if isfinite(value) else None
