"""Choosing one of N samples of the bundled model: accuracy over N by selector and confidence signal.

python benchmarks/best_of_n.py [--quick] [--json FILE] [--page docs/results.md] [--questions 500] [--seed 0]

Held-out questions, 64 samples each at temperature .6 and top-p .9, the settings of arXiv 2502.18581. Every N is
measured on 32 random subsets of each question's samples; answers are sampled, found and graded once. ``--page`` writes
the table between the marks ``best of n`` of a Markdown page.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _bundled import Policy, on_cpu
from _page import write_tables
from _shared import options, show, write_json
from rlsf.answers import TokenText
from rlsf.confidence import get_signal
from rlsf.demo.tasks import Problem, generate
from rlsf.models import load_model, load_tokenizer
from rlsf.recipes import resolve
from rlsf.sampling import SamplingConfig
from rlsf.select import Ballot, Curves, Estimate, GradedTraces, accuracy_curves, parse_selector
from rlsf.traces import Trace

SIGNALS = ("self_certainty", "answer_disparity", "trace_confidence")
BY_CONFIDENCE = ("weighted", "borda", "argmax")
SELECTORS = ("majority", *BY_CONFIDENCE)
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Sampled:
    """The problems, the traces of each, the text of their tokens, and what greedy decoding answers."""

    problems: Sequence[Problem]
    traces: Sequence[Sequence[Trace]]
    pieces: Sequence[Sequence[Sequence[str]]]
    greedy: Sequence[str | None]

    @property
    def greedy_accuracy(self) -> float:
        right = (answer == problem.gold for answer, problem in zip(self.greedy, self.problems, strict=True))
        return sum(right) / len(self.problems)


def sample(questions: int, traces: int, seed: int) -> Sampled:
    """``traces`` samples of each of ``questions`` held-out problems."""
    config = on_cpu()
    tokenizer = load_tokenizer(config)
    policy = Policy(load_model(config), tokenizer, resolve("rlsf"))
    problems = list(generate("test", questions, seed))
    sampling = SamplingConfig(strategy="sampling", branches=traces, temperature=0.6, top_p=0.9, max_new_tokens=96)
    groups = list(policy.traces(problems, sampling))
    pieces = [[TokenText.from_ids(tokenizer, trace.token_ids).pieces for trace in group] for group in groups]
    return Sampled(problems, groups, pieces, policy.greedy(problems)[0])


def measured(sampled: Sampled, signal: str, seed: int) -> Curves:
    """Accuracy over N with the confidences of ``signal``."""
    measure, graded = get_signal(signal).confidence, []
    for problem, group, pieces in zip(sampled.problems, sampled.traces, sampled.pieces, strict=True):
        answers = [trace.answer.text if trace.answer else None for trace in group]
        confidences = [measure(trace, text) for trace, text in zip(group, pieces, strict=True)]
        ballot = Ballot.of(answers, confidences)
        graded.append(GradedTraces.of(problem.id, ballot, [answer == problem.gold for answer in answers]))
    return accuracy_curves(graded, [parse_selector(name) for name in SELECTORS], seed=seed, resamples=RESAMPLES)


def table(curves: Mapping[str, Curves], greedy: float) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what needs no signal first, then selectors by signal, in per cent."""
    first = next(iter(curves.values()))
    header = ["signal", "selector", *(f"N = {size}" for size in first.sizes), "over majority at the largest N (95 %)"]
    rows = [
        ["", "greedy decoding", f"{100 * greedy:.1f}", *[""] * len(first.sizes)],
        ["", "any right (pass@N)", *_figures(first.oracle), ""],
        ["", "majority", *_figures(first.accuracy["majority"]), ""],
    ]
    for signal, of_signal in curves.items():
        for name in BY_CONFIDENCE:
            gain = of_signal.gain[name][-1]
            over = f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
            rows.append([signal, name, *_figures(of_signal.accuracy[name]), over])
    return header, rows


def _figures(estimates: Sequence[Estimate]) -> list[str]:
    return [f"{100 * estimate.value:.1f}" for estimate in estimates]


def main() -> None:
    parser = options("Choosing one of N samples of the bundled model")
    parser.add_argument("--questions", type=int, help="how many; 500, or 40 with --quick")
    parser.add_argument("--traces", type=int, help="samples of each; 64, or 16 with --quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, metavar="FILE", help="a Markdown page to write the table into")
    arguments = parser.parse_args()
    started = time.perf_counter()
    questions, traces = (40, 16) if arguments.quick else (500, 64)
    sampled = sample(arguments.questions or questions, arguments.traces or traces, arguments.seed)
    seconds = {"sampling": time.perf_counter() - started}
    curves = {signal: measured(sampled, signal, arguments.seed) for signal in SIGNALS}
    seconds["choosing"] = time.perf_counter() - started - seconds["sampling"]
    header, rows = table(curves, sampled.greedy_accuracy)
    show(
        "Accuracy over N, %",
        ["signal", "selector", *(str(size) for size in next(iter(curves.values())).sizes), "gain"],
        rows,
    )
    print("  ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
    figures: dict[str, Any] = {signal: found.model_dump(mode="json") for signal, found in curves.items()}
    write_json(arguments.json, {"seconds": seconds, "greedy": sampled.greedy_accuracy, "curves": figures})
    if arguments.page is not None:
        write_tables(arguments.page, {"best of n": (header, rows)})


if __name__ == "__main__":
    main()
