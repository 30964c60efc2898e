"""Greedy accuracy after training, over recipes, learning rates, seeds, and with or without the guards.

python benchmarks/training_robustness.py [--quick] [--json FILE] [--model DIR] [--recipes rlsf rlsf-trace]

Traces of unlabelled questions are sampled once. Each recipe ranks them into pairs, and each variant trains on those
pairs for the same number of steps. Two guards are in question: the NLL term on the chosen trace, and the label-free
choice of the step. One training serves both answers to the second, because the probe does not touch the training: the
policy of the last step is the one without selection. Accuracy is greedy, on held-out questions that no part of the
training saw.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from _bundled import GREEDY, Policy, on_cpu
from _shared import options, show, write_json
from rlsf.answers import TokenText
from rlsf.confidence import get_signal
from rlsf.demo import MODEL_DIR
from rlsf.demo.tasks import Problem, generate
from rlsf.evaluation import agreement
from rlsf.models import load_model, load_tokenizer
from rlsf.preferences import rank
from rlsf.recipes import Recipe, resolve
from rlsf.traces import Trace
from rlsf.training import train_preferences

PROBE_SHARE = 5
VARIED = ("learning_rates", "nll_weights", "seeds")


@dataclass(frozen=True, slots=True)
class Study:
    """What is varied and how large everything is."""

    learning_rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4, 1e-3)
    nll_weights: tuple[float, ...] = (1.0, 0.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    questions: int = 250
    held_out: int = 150
    steps: int = 40
    every: int = 20


QUICK = Study(learning_rates=(3e-4,), nll_weights=(1.0,), seeds=(0,), questions=40, held_out=40, steps=12, every=6)


@dataclass(frozen=True, slots=True)
class Material:
    """A recipe's pairs, and the prompts held out for the probe with the answers that were surest."""

    pairs: pa.Table
    probe_problems: list[Problem]
    probe_answers: list[str | None]


def prepare(
    recipe: Recipe, problems: Sequence[Problem], traces: Sequence[list[Trace]], tokenizer: PreTrainedTokenizerBase
) -> Material:
    """Rank the traces as the recipe says; every fifth prompt is kept for the probe."""
    signal = get_signal(recipe.signal)
    confidences = [
        [signal.confidence(trace, TokenText.from_ids(tokenizer, trace.token_ids).pieces) for trace in group]
        for group in traces
    ]
    texts = {problem.id: problem.text for problem in problems}
    split = len(problems) // PROBE_SHARE
    pairs, _ = rank(traces[split:], confidences[split:], recipe.ranking, texts)
    return Material(
        pairs,
        list(problems[:split]),
        list(itertools.starmap(surest, zip(traces[:split], confidences[:split], strict=True))),
    )


def surest(group: Sequence[Trace], confidences: Sequence[float | None]) -> str | None:
    """The answer of the most confident trace."""
    answered = [
        (confidence, trace.answer.text)
        for trace, confidence in zip(group, confidences, strict=True)
        if trace.answer is not None and confidence is not None
    ]
    return max(answered)[1] if answered else None


def one_training(
    model_folder: Path, recipe: Recipe, material: Material, held_out: Sequence[Problem], study: Study, seed: int
) -> dict[str, Any]:
    """Train once; accuracy and mean length at the start, at the last step and at the step that selection keeps."""
    config = on_cpu(model_folder)
    tokenizer, gold = load_tokenizer(config), [problem.gold for problem in held_out]
    measured: dict[int, tuple[float, float]] = {}

    def probe(model: PreTrainedModel, step: int) -> Mapping[str, float]:
        policy = Policy(model, tokenizer, recipe)
        answers, tokens = policy.greedy(held_out)
        measured[step] = agreement(answers, gold), tokens
        return {"agreement": agreement(policy.greedy(material.probe_problems)[0], material.probe_answers)}

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = train_preferences(
            model=load_model(config, for_training=True),
            tokenizer=tokenizer,
            preferences=material.pairs,
            config=recipe.training,
            folder=Path(folder) / "checkpoints",
            policy_folder=Path(folder) / "policy",
            seed=seed,
            probe=probe,
        )
    return {
        "seed": seed,
        "start": measured[0][0],
        "last": measured[result.steps][0],
        "selected": measured[result.best_step][0],
        "selected_step": result.best_step,
        "accuracies": {step: accuracy for step, (accuracy, _) in measured.items()},
        "agreements": {int(found["step"]): found["agreement"] for found in result.probes},
        "mean_tokens": {step: tokens for step, (_, tokens) in measured.items()},
        "chosen_drift": result.metrics["logps/chosen_drift"],
        "seconds": time.monotonic() - started,
    }


def variants(study: Study, recipe: str, overrides: Mapping[str, Any]) -> Iterator[tuple[Recipe, dict[str, Any]]]:
    """Every combination of guard, learning rate and seed, the recipe's other settings as shipped."""
    for nll_weight, learning_rate in itertools.product(study.nll_weights, study.learning_rates):
        training = {
            "nll_weight": nll_weight,
            "learning_rate": learning_rate,
            "max_steps": study.steps,
            "selection": {"every": study.every},
            **overrides,
        }
        resolved = resolve(recipe, overrides={"training": training})
        for seed in study.seeds:
            yield resolved, {"recipe": recipe, "nll_weight": nll_weight, "learning_rate": learning_rate, "seed": seed}


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row a setting: per cent, mean over the seeds and the worst of them."""

    def key(run: Mapping[str, Any]) -> tuple[Any, ...]:
        return run["recipe"], run["nll_weight"], run["learning_rate"]

    def cell(values: list[float]) -> str:
        return f"{100 * statistics.fmean(values):.1f} ({100 * min(values):.1f})"

    rows = []
    for setting, group in itertools.groupby(runs, key):
        found = list(group)
        columns = [cell([run[name] for run in found]) for name in ("last", "selected")]
        rows.append(
            [setting[0], *(f"{number:g}" for number in setting[1:]), f"{100 * found[0]['start']:.1f}", *columns]
        )
    return rows


def study_all(arguments: Any, study: Study, record: Callable[[dict[str, Any]], None]) -> None:
    """Sample, then rank and train for every recipe and variant."""
    config = on_cpu(arguments.model)
    tokenizer = load_tokenizer(config)
    problems = generate("self_training", study.questions, seed=0)
    held_out = generate("validation", study.held_out, seed=0)
    recipes = {name: resolve(name) for name in arguments.recipes}
    first = next(iter(recipes.values()))
    sampling = first.sampling.model_copy(update={"max_new_tokens": GREEDY.max_new_tokens})
    traces = list(Policy(load_model(config), tokenizer, first).traces(problems, sampling))
    for name, recipe in recipes.items():
        material = prepare(recipe, problems, traces, tokenizer)
        for resolved, setting in variants(study, name, json.loads(arguments.training)):
            outcome = one_training(arguments.model, resolved, material, held_out, study, setting["seed"])
            record({**setting, "pairs": material.pairs.num_rows, **outcome})


def main() -> None:
    """The command line."""
    parser = options("Greedy accuracy after training over recipes, learning rates, seeds and guards.")
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--recipes", nargs="+", default=["rlsf", "rlsf-trace"])
    parser.add_argument("--learning-rates", nargs="+", type=float)
    parser.add_argument("--nll-weights", nargs="+", type=float)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--training", default="{}", help="JSON laid over the training section of every variant")
    arguments = parser.parse_args()
    study = QUICK if arguments.quick else Study()
    chosen = {name: tuple(getattr(arguments, name)) for name in VARIED if getattr(arguments, name)}
    study = replace(study, **chosen)
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    runs: list[dict[str, Any]] = []

    def record(run: dict[str, Any]) -> None:
        runs.append(run)
        write_json(arguments.json, {"runs": runs})
        print(
            f"{run['recipe']}, nll {run['nll_weight']:g}, lr {run['learning_rate']:g}, seed {run['seed']}:"
            f" {run['start']:.1%} -> last {run['last']:.1%}, selected {run['selected']:.1%}"
            f" (step {run['selected_step']}), {run['seconds']:.0f} s",
            flush=True,
        )

    study_all(arguments, study, record)
    show(
        "Greedy accuracy, %: mean over seeds (worst)",
        ["recipe", "nll", "rate", "before", "last step", "selected step"],
        summarise(runs),
    )


if __name__ == "__main__":
    main()
