"""How often the bootstrap's 95 % intervals hold the figure of the whole population, and how far ECE is biased.

python benchmarks/intervals.py [--quick] [--json FILE]

Confidences c are drawn from Beta(2, 1.5), and an answer is right with probability c^e: perfectly calibrated for e = 1,
more and more over-confident above. The figures of the population are those of a sample of 400,000 questions, ECE's
for e = 1 is 0.
"""

from __future__ import annotations

import numpy as np

from _shared import options, show, write_json
from rlsf.evaluation import Metrics, Sample, bootstrap, percentile_interval

EXPONENTS = (1.0, 1.3, 2.0)
METRICS = ("accuracy", "brier", "log_loss", "auroc", "aurc", "ece")
QUESTIONS, POPULATION = 500, 400_000


def experiment(exponent: float, questions: int, seed: int) -> Metrics:
    """The metrics of questions drawn at random."""
    generator = np.random.default_rng(seed)
    confidence = generator.beta(2, 1.5, questions)
    correct = (generator.random(questions) < confidence**exponent).astype(np.int64)
    return Metrics(Sample(confidence, correct, correct, correct))


def coverage(exponent: float, experiments: int, resamples: int) -> dict[str, dict[str, float]]:
    """By metric: the population's value, the mean of the measured ones, and the share of intervals that hold it."""
    truth = experiment(exponent, POPULATION, seed=1_000_000).values()
    if exponent == 1.0:
        truth["ece"] = 0.0
    held, measured = dict.fromkeys(METRICS, 0), dict.fromkeys(METRICS, 0.0)
    for seed in range(experiments):
        metrics = experiment(exponent, QUESTIONS, seed)
        values, drawn = metrics.values(), bootstrap(metrics, QUESTIONS, resamples, seed)
        for name in METRICS:
            interval = percentile_interval(drawn[name])
            held[name] += interval is not None and interval[0] <= truth[name] <= interval[1]
            measured[name] += values[name] / experiments
    return {
        name: {"truth": truth[name], "mean": measured[name], "covered": held[name] / experiments} for name in METRICS
    }


def main() -> None:
    """One table for all degrees of over-confidence."""
    arguments = options(__doc__.splitlines()[0]).parse_args()
    experiments, resamples = (60, 200) if arguments.quick else (300, 1000)
    figures = {exponent: coverage(exponent, experiments, resamples) for exponent in EXPONENTS}
    for exponent, row in figures.items():
        show(
            f"right with probability c^{exponent:g}, {experiments} experiments of {QUESTIONS} questions",
            ["figure", "truth", "mean measured", "covered"],
            [
                [name, f"{cell['truth']:.3f}", f"{cell['mean']:.3f}", f"{cell['covered']:.0%}"]
                for name, cell in row.items()
            ],
        )
    write_json(arguments.json, {"quick": arguments.quick, "exponents": figures})


if __name__ == "__main__":
    main()
