"""Which confidence signal tells right answers from wrong ones, and which of ten branches would each prefer?

python benchmarks/signals.py [--quick] [--json FILE] [--model DIR]

Samples the ten branches of CoT-decoding for labelled validation questions of the bundled model's tasks (never the
test split), and measures on them every signal of the registry, and then the forms that ``trace_confidence`` could
have taken: which tokens count, and which mean is taken over them. Intervals are 95 % bootstraps over questions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _shared import options, show, write_json
from _signal_forms import FORMS
from rlsf.answers import TokenText, find_answer
from rlsf.answers.config import AnswerConfig
from rlsf.confidence import SIGNALS
from rlsf.demo import MODEL_DIR
from rlsf.demo.solutions import style_of
from rlsf.demo.tasks import generate
from rlsf.evaluation import auroc, ece
from rlsf.models.config import ModelConfig
from rlsf.models.loading import load_model
from rlsf.models.tokenizer import load_tokenizer
from rlsf.preferences import RankingConfig, rank_prompt
from rlsf.prompts.config import RenderConfig
from rlsf.prompts.rendering import render
from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.traces import Trace

BRANCHES = 10
Floats = NDArray[np.float64]
#: From an answered trace and its pieces to a confidence.
Measure = Callable[[Trace, Sequence[str]], float | None]
COLUMNS = ("all", "direct", "worked", "computed", "within", "surest right", "surest worked", "ECE")
#: The rule of the recipe ``rlsf-trace``, the same for every signal.
RANKING = RankingConfig(rule="best_versus_rest", threshold=0.0, minimum_gap=0.1, different_answers=True)


@dataclass(frozen=True, slots=True)
class Branches:
    """Answered branches, one row a question: arrays of shape [questions, branches].

    ``computed``: worked branches of questions whose answer is the result of the last equation, not a comparison.
    """

    traces: list[Trace]
    pieces: list[tuple[str, ...]]
    correct: NDArray[np.bool_]
    worked: NDArray[np.bool_]
    computed: NDArray[np.bool_]


def sample(folder: Path, questions: int, seed: int) -> Branches:
    """The branches of validation questions, graded against the generator's answers."""
    config = ModelConfig(path=str(folder), dtype="float32")
    tokenizer = load_tokenizer(config)
    engine = TransformersEngine(load_model(config), tokenizer)
    problems = generate("validation", questions, seed)
    requests = [
        SamplingRequest(problem.id, render(problem.prompt.without_gold(), tokenizer, RenderConfig()).token_ids)
        for problem in problems
    ]
    traces, pieces, correct, worked, computed = [], [], [], [], []
    sampled = engine.sample(requests, SamplingConfig(branches=BRANCHES, max_new_tokens=96))
    for problem, group in zip(problems, sampled, strict=True):
        for trace in group:
            text = TokenText.from_ids(tokenizer, trace.token_ids)
            finding = find_answer(text, AnswerConfig(), problem.choices)
            traces.append(trace.with_answer(finding.answer, finding.failure))
            pieces.append(text.pieces)
            correct.append(finding.answer is not None and finding.answer.text == problem.gold)
            worked.append(style_of(trace.text) == "worked")
            computed.append(worked[-1] and problem.arithmetic.goal not in ("most", "fewest"))
    masks = (np.reshape(mask, (len(problems), BRANCHES)) for mask in (correct, worked, computed))
    return Branches(traces, pieces, *masks)


def confidences(branches: Branches, measure: Measure) -> Floats:
    """[questions, branches]; a branch without an answer has confidence 0, and is wrong."""
    values = [
        0.0 if trace.answer is None else measure(trace, pieces)
        for trace, pieces in zip(branches.traces, branches.pieces, strict=True)
    ]
    return np.reshape(np.asarray(values, dtype=np.float64), branches.correct.shape)


def figures(confidence: Floats, branches: Branches, questions: NDArray[np.int64]) -> dict[str, float]:
    """The columns of a table, over the given questions (row numbers, repetitions allowed).

    ``all``, ``direct``, ``worked``, ``computed``: AUROC over those branches. ``within``: of all pairs of a right and a
    wrong branch of the same question, those ranked rightly. ``surest``: the branch with the largest confidence of
    each question: how often it is right, how often worked, and its ECE (10 bins).
    """
    confidence, correct = confidence[questions], branches.correct[questions]
    worked, computed = branches.worked[questions], branches.computed[questions]
    rows = np.arange(len(questions))
    surest = confidence.argmax(axis=1)
    ahead = confidence[:, :, None] - confidence[:, None, :]
    compared = correct[:, :, None] & ~correct[:, None, :]
    return {
        "all": _auroc(confidence, correct),
        "direct": _auroc(confidence[~worked], correct[~worked]),
        "worked": _auroc(confidence[worked], correct[worked]),
        "computed": _auroc(confidence[computed], correct[computed]),
        "within": float(((ahead > 0) + 0.5 * (ahead == 0))[compared].mean()) if compared.any() else np.nan,
        "surest right": float(correct[rows, surest].mean()),
        "surest worked": float(worked[rows, surest].mean()),
        "ECE": ece(confidence[rows, surest], correct[rows, surest]),
    }


def _auroc(confidence: Floats, correct: NDArray[np.bool_]) -> float:
    return auroc(confidence.ravel(), correct.ravel()) if 0 < correct.sum() < correct.size else np.nan


def measured(branches: Branches, measure: Measure, resamples: int) -> dict[str, dict[str, float]]:
    """Every column with its interval."""
    confidence = confidences(branches, measure)
    value = figures(confidence, branches, np.arange(len(confidence)))
    random = np.random.default_rng(0)
    draws = random.integers(0, len(confidence), (resamples, len(confidence)))
    resampled = [figures(confidence, branches, draw) for draw in draws]
    result = {}
    for column in COLUMNS:
        low, high = np.nanpercentile([row[column] for row in resampled], [2.5, 97.5])
        result[column] = {"value": value[column], "low": float(low), "high": float(high)}
    return result


def preferences(branches: Branches, confidence: Floats) -> dict[str, float]:
    """What ``RANKING`` makes of a signal: pairs, and the shares that prefer right to wrong and wrong to right."""
    better = worse = count = 0
    questions, width = branches.correct.shape
    for row in range(questions):
        traces = branches.traces[row * width : (row + 1) * width]
        pairs, _ = rank_prompt(traces, confidence[row].tolist(), RANKING)
        for pair in pairs:
            chosen, rejected = (branches.correct[row, side.trace.index] for side in (pair.chosen, pair.rejected))
            count, better, worse = count + 1, better + (chosen > rejected), worse + (rejected > chosen)
    return {"pairs": count, "right > wrong": better / max(count, 1), "wrong > right": worse / max(count, 1)}


def report(title: str, results: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print a table; the intervals are in the JSON."""
    rows = [[name, *(f"{row[column]['value']:.3f}" for column in COLUMNS)] for name, row in results.items()]
    show(title, ["", *COLUMNS], rows)


def report_preferences(results: dict[str, dict[str, float]]) -> None:
    """Print what the signals would prefer."""
    rows = [
        [name, f"{row['pairs']:.0f}", f"{row['right > wrong']:.3f}", f"{row['wrong > right']:.3f}"]
        for name, row in results.items()
    ]
    show("Preferences: surest versus rest, other answer, gap of 0.1", ["", *next(iter(results.values()))], rows)


def main() -> None:
    """The command line."""
    parser = options("Signals of confidence on the branches of the bundled model.")
    parser.add_argument("--model", type=Path, default=MODEL_DIR, help="another folder with a model of these tasks")
    parser.add_argument("--questions", type=int, help="how many; 1000, or 300 with --quick")
    parser.add_argument("--seed", type=int, default=7, help="of the questions")
    arguments = parser.parse_args()
    started = time.perf_counter()
    branches = sample(arguments.model, arguments.questions or (300 if arguments.quick else 1000), arguments.seed)
    resamples = 50 if arguments.quick else 500
    statistical = {name: signal for name, signal in SIGNALS.items() if signal.statistics}
    signals = {name: measured(branches, signal.confidence, resamples) for name, signal in statistical.items()}
    report("Signals", signals)
    forms = {name: measured(branches, form, resamples) for name, form in FORMS.items()}
    report("Forms of trace_confidence: which values, which mean", forms)
    every = {name: signal.confidence for name, signal in statistical.items()} | FORMS
    preferred = {name: preferences(branches, confidences(branches, measure)) for name, measure in every.items()}
    report_preferences(preferred)
    outcome = {
        "questions": len(branches.correct),
        "greedy_accuracy": float(branches.correct[:, 0].mean()),
        "any_branch_right": float(branches.correct.any(axis=1).mean()),
        "worked_right": float(branches.correct[branches.worked].mean()),
        "computed_right": float(branches.correct[branches.computed].mean()),
        "direct_right": float(branches.correct[~branches.worked].mean()),
        "without_answer": sum(trace.answer is None for trace in branches.traces) / len(branches.traces),
        "seconds": time.perf_counter() - started,
    }
    print("  ".join(f"{name} {value:.3f}" for name, value in outcome.items()))
    write_json(arguments.json, {**outcome, "signals": signals, "preferences": preferred, "forms": forms})


if __name__ == "__main__":
    main()
