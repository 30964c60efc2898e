"""A comparison of eight methods with three seeds, made up: the page and the tables are tested on it."""

from __future__ import annotations

import numpy as np

from rlsf.evaluation import EvaluationConfig, Outcome
from rlsf.evaluation.comparing import CurvePoint, MethodOutcomes, compare_methods
from rlsf.evaluation.comparison_schema import Asked, Comparison

_METHODS = (
    ("before", "start", False, 0.50, 0),
    ("rlsf", "self-feedback", False, 0.62, 1),
    ("intuitor", "self-feedback", False, 0.64, 1),
    ("drr", "self-feedback", False, 0.53, 1),
    ("rlcr", "labelled", True, 0.74, 1),
    ("grpo-gold", "bound", True, 0.85, 1),
    ("random-pairs", "bound", False, 0.48, 1),
)


def example_comparison(asked: Asked | None = None, broken: str = "CUDA out of memory") -> Comparison:
    """Seven methods with figures, one of them with a failed seed, and one that failed altogether."""
    generator = np.random.default_rng(0)
    hardness = generator.normal(size=150)
    methods = [_method(generator, hardness, *method) for method in _METHODS]
    methods.append(
        MethodOutcomes(
            "rc-rm", "a reward model", "self-feedback", False, "greedy", {}, failed=dict.fromkeys(range(3), broken)
        )
    )
    asked = asked or Asked(
        name="eight methods",
        model="sums-1m",
        data="learn.jsonl",
        measured_on="measure.jsonl",
        seeds=(0, 1, 2),
        generated_tokens=200_000,
        settings={"training.epochs": "1"},
        command="rlsf compare --demo",
    )
    return compare_methods(methods, EvaluationConfig(bootstrap=200), 0, asked)


def _method(generator, hardness, recipe, kind, needs_labels, accuracy, spends) -> MethodOutcomes:
    seeds = (0, 1) if recipe == "rlsf" else (0, 1, 2)
    outcomes, curve = {}, {}
    for seed in seeds:
        chance = generator if spends else np.random.default_rng(1)
        skill = 3 * (accuracy - 0.5) - hardness + 0.6 * chance.normal(size=len(hardness))
        confidence = 1 / (1 + np.exp(-skill - chance.normal(size=len(hardness))))
        outcomes[seed] = [
            Outcome(f"q{i}", "greedy", 0, "7", float(sure), bool(good > 0), bool(good > 0), True, 20 + i % 9, False)
            for i, (good, sure) in enumerate(zip(skill, confidence, strict=True))
        ]
        if recipe == "intuitor":
            curve[seed] = [CurvePoint(s, 9000 * s, 7000 * s, 3.0 * s, 0.5 + 0.02 * s) for s in range(6)]
    return MethodOutcomes(
        recipe,
        f"what {recipe} does",
        kind,
        needs_labels,
        "greedy",
        outcomes,
        entropy={seed: 0.3 + 0.05 * seed for seed in seeds},
        spent={seed: {"generated_tokens": 90_000.0 * spends, "optimiser_steps": 60.0 * spends} for seed in seeds},
        curve=curve,
        failed={2: "loss is NaN"} if recipe == "rlsf" else {},
    )
