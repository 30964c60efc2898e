"""Calibrated confidence of the bundled model: raw confidences against three calibrators, and the threshold's promise.

python benchmarks/calibration.py [--quick] [--json FILE] [--page docs/results.md] [--questions 1500] [--draws 200]

Held-out questions are sampled and graded once, as the evaluation does it. Each draw takes n of them at random to
calibrate on and measures on all others: means over the draws. ``--page`` writes the tables between the marks
``calibrators`` and ``thresholds`` of a Markdown page.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _bundled import Policy, on_cpu
from _page import write_tables
from _shared import options, show, write_json
from rlsf.answers import TokenText
from rlsf.calibration import fit_calibrator, fit_threshold
from rlsf.confidence import get_signal
from rlsf.demo.tasks import generate
from rlsf.errors import InputError
from rlsf.evaluation import EvaluationConfig, Outcome, brier, ece, judge_question, log_loss
from rlsf.models import load_model, load_tokenizer
from rlsf.recipes import resolve
from rlsf.sampling import SamplingConfig

SIGNAL = "answer_disparity"
METHODS = ("isotonic", "platt", "temperature")
MEASURES = {"ECE": ece, "Brier": brier, "log loss": log_loss}
ALPHAS, DELTA = (0.05, 0.1), 0.05
NAMES = {"greedy": "greedy", "cot_decoding": "CoT-decoding", "majority": "majority"}


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The questions of one decoding mode, arrays [n]; without an answer the confidence is 0 and stays 0."""

    confidence: np.ndarray
    correct: np.ndarray
    answered: np.ndarray

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Measured:
        return cls(
            np.array([outcome.confidence for outcome in outcomes]),
            np.array([outcome.correct for outcome in outcomes]),
            np.array([outcome.failure is None for outcome in outcomes]),
        )

    def draws(self, n: int, draws: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places of the questions to calibrate on that have an answer, and of all others."""
        generator = np.random.default_rng([seed, n])
        for _ in range(draws):
            order = generator.permutation(len(self.confidence))
            drawn = order[:n]
            yield drawn[self.answered[drawn]], order[n:]


def measure(questions: int, branches: int, seed: int) -> dict[str, Measured]:
    """Every decoding mode over ``questions`` held-out problems."""
    config = on_cpu()
    tokenizer = load_tokenizer(config)
    policy = Policy(load_model(config), tokenizer, resolve("rlsf"))
    problems = list(generate("test", questions, seed))
    signal, evaluation = get_signal(SIGNAL), EvaluationConfig()
    outcomes: list[Outcome] = []
    sampling = SamplingConfig(branches=branches, max_new_tokens=96)
    for problem, traces in zip(problems, policy.traces(problems, sampling), strict=True):
        pieces = [TokenText.from_ids(tokenizer, trace.token_ids).pieces for trace in traces]
        confidences = [signal.confidence(trace, text) for trace, text in zip(traces, pieces, strict=True)]
        outcomes += judge_question(
            problem.prompt, traces, confidences, evaluation, lambda answer, gold, _: answer == gold
        )
    return {mode: Measured.of([one for one in outcomes if one.mode == mode]) for mode in evaluation.modes}


def calibrators(mode: Measured, n: int, draws: int, seed: int) -> dict[str, dict[str, float]]:
    """Mean ECE, Brier score and log loss on other questions: of raw confidences and of every calibrator."""
    found: dict[str, list[list[float]]] = {name: [] for name in ("raw", *METHODS)}
    for drawn, others in mode.draws(n, draws, seed):
        right = mode.correct[others]
        for name in found:
            values = mode.confidence[others]
            if name != "raw":
                try:
                    fitted = fit_calibrator(mode.confidence[drawn], mode.correct[drawn], name)
                except InputError:  # hardly a wrong answer in this draw
                    continue
                values = np.where(mode.answered[others], fitted.probability(values), 0.0)
            found[name].append([measured(values, right) for measured in MEASURES.values()])
    return {
        name: {**dict(zip(MEASURES, np.mean(values, axis=0).tolist(), strict=True)), "draws": len(values)}
        for name, values in found.items()
        if values
    }


def threshold(mode: Measured, n: int, alpha: float, draws: int, seed: int) -> dict[str, float]:
    """What the threshold does on other questions: mean share answered and error, and how often the promise broke."""
    shares, errors = [], []
    for drawn, others in mode.draws(n, draws, seed):
        found = fit_threshold(mode.confidence[drawn], mode.correct[drawn], alpha, DELTA)
        kept = found.answers(mode.confidence[others]) & mode.answered[others]
        shares.append(float(kept.mean()))
        errors.append(float(1 - mode.correct[others][kept].mean()) if kept.any() else np.nan)
    known = [error for error in errors if np.isfinite(error)]
    return {
        "found": len(known) / draws,
        "answered": float(np.mean(shares)),
        "error": float(np.mean(known)) if known else float("nan"),
        "broken": sum(error > alpha for error in known) / draws,
    }


def calibrator_rows(found: dict[str, dict[int, dict[str, dict[str, float]]]]) -> list[list[str]]:
    return [
        [NAMES[mode], str(n), name, *(f"{figures[measure]:.3f}" for measure in MEASURES)]
        for mode, by_size in found.items()
        for n, by_name in by_size.items()
        for name, figures in by_name.items()
    ]


def threshold_rows(found: dict[str, dict[int, dict[float, dict[str, float]]]]) -> list[list[str]]:
    return [
        [
            NAMES[mode],
            str(n),
            f"{alpha:g}",
            *(_percent(figures[key]) for key in ("found", "answered", "error", "broken")),
        ]
        for mode, by_size in found.items()
        for n, by_alpha in by_size.items()
        for alpha, figures in by_alpha.items()
    ]


def _percent(share: float) -> str:
    return "" if np.isnan(share) else f"{100 * share:.1f}"


def main() -> None:
    parser = options("Calibrated confidence of the bundled model")
    parser.add_argument("--questions", type=int, help="how many in all; 1500, or 120 with --quick")
    parser.add_argument("--draws", type=int, help="draws of the questions to calibrate on; 200, or 20 with --quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, metavar="FILE", help="a Markdown page to write the tables into")
    arguments = parser.parse_args()
    questions, draws, sizes = (120, 20, (60,)) if arguments.quick else (1500, 200, (100, 300))
    draws, started = arguments.draws or draws, time.perf_counter()
    modes = measure(arguments.questions or questions, 4 if arguments.quick else 10, arguments.seed)
    seconds = {"sampling": time.perf_counter() - started}
    seed = arguments.seed
    fitted = {name: {n: calibrators(mode, n, draws, seed) for n in sizes} for name, mode in modes.items()}
    kept = {
        name: {n: {alpha: threshold(mode, n, alpha, draws, seed) for alpha in ALPHAS} for n in sizes}
        for name, mode in modes.items()
    }
    seconds["calibrating"] = time.perf_counter() - started - seconds["sampling"]
    tables: dict[str, Any] = {
        "calibrators": (["decoding", "questions", "confidence", *MEASURES], calibrator_rows(fitted)),
        "thresholds": (
            ["decoding", "questions", "alpha", "found, %", "answered, %", "wrong among these, %", "over alpha, %"],
            threshold_rows(kept),
        ),
    }
    for name, (header, rows) in tables.items():
        show(name.capitalize(), header, rows)
    print("  ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
    write_json(arguments.json, {"seconds": seconds, "calibrators": fitted, "thresholds": kept})
    if arguments.page is not None:
        write_tables(arguments.page, tables)


if __name__ == "__main__":
    main()
