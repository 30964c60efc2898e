"""The guard on trainings that collapse: held-out accuracy with it and without it, by reward and seed.

python benchmarks/guard.py [--quick] [--json FILE] [--recipes A B ...] [--seeds 0 1 2] [--rate R]
    [--working-rate R] [--steps N]

The bundled model learns from rewards of its own sureness for much longer than these are good for; and, at a lower rate,
from a reward that works, to see whether the guard does harm. Every training is made twice: guarded, with all of the
guard's defaults; and unguarded, where probes are measured but stop nothing and the policy of the last step counts. The
guard sees no labels; greedy accuracy is measured beside its probe, on labelled questions that no part of the training
saw. That of the kept policy is of the policy saved. Two trainings at a time, each on one thread.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel
from transformers.utils import logging

from _bundled import Policy, on_cpu
from _shared import options, show, write_json
from rlsf.demo import write_data
from rlsf.demo.settings import demo_settings
from rlsf.demo.tasks import Problem, generate
from rlsf.evaluation import agreement
from rlsf.models import load_model
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.online import online_config, probe_targets, training_rows
from rlsf.pipeline.probe import agreement_probe, held_out
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.recipes import Recipe, resolve
from rlsf.recipes.resolve import merge
from rlsf.training import train_online
from rlsf.training.finish import latest_checkpoint
from rlsf.training.guard import Guard
from rlsf.training.guard_config import GuardConfig

#: Everything that ends a training early, switched off.
NOTHING_STOPS = {
    name: None for name in GuardConfig.model_fields if name.endswith(("patience", "_floor", "_limit", "_drop"))
}
#: The reward that works, to see whether the guard does harm.
WORKING = "rlsf-online"
HELD_OUT_SEED = 0
Record = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Study:
    """What is varied and how large everything is."""

    recipes: tuple[str, ...] = ("rlif-self-certainty", "rlif-token-entropy", "rlif-trajectory-entropy", WORKING)
    seeds: tuple[int, ...] = (0, 1, 2)
    rate: float = 3e-4
    working_rate: float = 1e-4
    """Of ``WORKING``, which declines too at the rate that makes the others collapse."""
    steps: int = 80
    every: int = 10
    questions: int = 400
    held_out: int = 200


QUICK = Study(recipes=("rlif-token-entropy", WORKING), seeds=(0,), steps=4, every=2, questions=60, held_out=40)


def settings(study: Study, recipe: str, seed: int, *, guarded: bool) -> Recipe:
    """The recipe with the demo's sizes, the study's rate and steps, and the guard as it is or without its alarms."""
    online = {
        "learning_rate": study.working_rate if recipe == WORKING else study.rate,
        "max_steps": study.steps,
        "save_every": study.every,
        "guard": {"every": study.every, **({} if guarded else NOTHING_STOPS)},
    }
    model = on_cpu().model_dump(include={"path", "device", "dtype"})
    layer = {"model": model, "online": online, "sampling": {"workers": 1}, "seed": seed}
    return resolve(recipe, None, merge(demo_settings(recipe), layer))


def one_training(study: Study, recipe: str, seed: int, guarded: bool) -> dict[str, Any]:
    """Train once, in a folder that is thrown away; what was measured on the way and of the policy that was kept."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    started = time.monotonic()
    problems = generate("validation", study.held_out, seed=HELD_OUT_SEED)
    events: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        learned_from, _ = write_data(folder, study.questions, 1)
        resolved = settings(study, recipe, seed, guarded=guarded)
        resolved = resolved.model_copy(
            update={"prompts": resolved.prompts.model_copy(update={"path": str(learned_from)})}
        )
        with Run(resolved, RunFolder(folder / "run"), ProgressDisplay(Console(quiet=True))).open(resume=False) as run:
            outcome = _train(run, problems, events.append)
            kept = load_model(on_cpu(run.folder.policy))
            outcome["kept"] = _accuracy(run, kept, problems)[0]
    return {
        "recipe": recipe,
        "seed": seed,
        "guarded": guarded,
        **outcome,
        "trajectory": _by_step(events, "training"),
        "probes": _by_step(events, "probe"),
        "seconds": time.monotonic() - started,
    }


def _train(run: Run, problems: Sequence[Problem], record: Record) -> dict[str, Any]:
    """The online stage of a run, with held-out accuracy recorded at each probe and kept from the guard."""
    kept_out = set(held_out(run, [prompt.id for prompt in run.prompts]))
    targets = probe_targets(run, [prompt.id for prompt in run.prompts if prompt.id in kept_out])
    unlabelled_probe = agreement_probe(run, targets)

    def probe(model: PreTrainedModel, step: int) -> Mapping[str, float]:
        accuracy, tokens = _accuracy(run, model, problems)
        record({"event": "probe", "step": step, "accuracy": accuracy, "held_out_tokens": tokens})
        return unlabelled_probe(model, step)

    config = online_config(run)
    result = train_online(
        model=load_model(run.start_config(), for_training=True),
        tokenizer=run.tokenizer,
        rows=training_rows(run, [prompt for prompt in run.prompts if prompt.id not in kept_out]),
        config=config,
        answer=run.recipe.answer,
        folder=run.folder.checkpoints(1),
        policy_folder=run.folder.policy,
        seed=run.recipe.seed,
        probe=probe,
        record=record,
    )
    guard = Guard.load(config.guard, latest_checkpoint(run.folder.checkpoints(1)))
    return {
        "steps": result.steps,
        "kept_step": result.best_step,
        "sign": guard.alarm.sign if guard.alarm else "patience" if guard.stopped else None,
        "reason": result.reason,
    }


def _accuracy(run: Run, model: PreTrainedModel, problems: Sequence[Problem]) -> tuple[float, float]:
    """Greedy accuracy and mean length."""
    answers, tokens = Policy(model, run.tokenizer, run.recipe).greedy(problems)
    return agreement(answers, [problem.gold for problem in problems]), tokens


def _by_step(events: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """What was measured at each step, in one mapping a step."""
    steps: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["event"] == kind:
            steps.setdefault(event["step"], {}).update(event)
    return [{name: value for name, value in steps[step].items() if name != "event"} for step in sorted(steps)]


def compare(runs: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A training with the guard beside the same one without it, for every pair that is there.

    ``kept`` is of the guarded run, ``best`` the highest accuracy of any probe of the unguarded one, which only labels
    tell. ``same_until_stopped``: whether both runs were one training as far as the guarded one went.
    """
    found = {(run["recipe"], run["seed"], run["guarded"]): run for run in runs}
    for (recipe, seed, guarded), kept in found.items():
        free = found.get((recipe, seed, False))
        if not guarded or free is None:
            continue
        probes = {probe["step"]: probe for probe in free["probes"]}
        moments = {"start": 0, "end": free["steps"], "kept": kept["kept_step"]}
        shared = [probe for probe in kept["probes"] if probe["step"] in probes]
        yield {
            "recipe": recipe,
            "seed": seed,
            "start": probes[0]["accuracy"],
            "end": probes[free["steps"]]["accuracy"],
            "best": max(probe["accuracy"] for probe in probes.values()),
            "kept": kept["kept"],
            "kept_step": kept["kept_step"],
            "stopped": kept["steps"],
            "saved": free["steps"] - kept["steps"],
            "sign": kept["sign"],
            **{f"entropy_{moment}": _at(step, kept, free)["entropy"] for moment, step in moments.items()},
            **{f"tokens_{moment}": _at(step, kept, free)["mean_tokens"] for moment, step in moments.items()},
            "same_until_stopped": all(probe["accuracy"] == probes[probe["step"]]["accuracy"] for probe in shared),
        }


def _at(step: int, *runs: Mapping[str, Any]) -> Mapping[str, float]:
    """The probe at a step, of the first run that has one there."""
    return next(probe for run in runs for probe in run["probes"] if probe["step"] == step)


ACCURACIES = ("start", "best", "end", "kept")
STEPS = ("kept_step", "stopped", "saved")
SIGNS = ("entropy_start", "entropy_end", "entropy_kept", "tokens_start", "tokens_end", "tokens_kept")


def table(pairs: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, float]]) -> list[list[str]]:
    """A row for every seed, then the mean where there are several; ``columns``: name -> format, factor."""
    rows = []
    for recipe in dict.fromkeys(pair["recipe"] for pair in pairs):
        group = [pair for pair in pairs if pair["recipe"] == recipe]
        mean = {name: statistics.fmean(pair[name] for pair in group) for name in columns}
        for pair in [*group, {**mean, "seed": "mean", "sign": ""}][: None if len(group) > 1 else 1]:
            figures = [format(scale * pair[name], form) for name, (form, scale) in columns.items()]
            rows.append([recipe, str(pair["seed"]), *figures, pair["sign"] or ""])
    return rows


def report(pairs: Sequence[Mapping[str, Any]]) -> None:
    """Both tables."""
    columns = {**dict.fromkeys(ACCURACIES, (".1f", 100.0)), **dict.fromkeys(STEPS, (".0f", 1.0))}
    header = ["recipe", "seed", "start", "best", "unguarded", "guarded", "step kept", "stopped at", "saved", "sign"]
    show("Greedy accuracy on held-out questions, %; steps", header, table(pairs, columns))
    columns = {name: (".3f" if name.startswith("entropy") else ".1f", 1.0) for name in SIGNS}
    moments = ("start", "unguarded", "guarded")
    header = ["recipe", "seed", *(f"{sign} {moment}" for sign in ("H", "tokens") for moment in moments)]
    show("The guard's probe: nats a token, tokens", header, [row[:-1] for row in table(pairs, columns)])


def main() -> None:
    """The command line."""
    parser = options("Held-out accuracy of trainings that collapse, with the guard and without it.")
    parser.add_argument("--recipes", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--rate", type=float, help="learning rate of the rewards that collapse")
    parser.add_argument("--working-rate", type=float, help=f"learning rate of {WORKING}")
    parser.add_argument("--steps", type=int, help="optimiser steps of the unguarded training")
    arguments = parser.parse_args()
    chosen = {name: getattr(arguments, name) for name in ("recipes", "seeds", "rate", "working_rate", "steps")}
    study = replace(QUICK if arguments.quick else Study(), **{name: value for name, value in chosen.items() if value})
    started, runs = time.monotonic(), []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        tasks = [
            pool.submit(one_training, study, recipe, seed, guarded)
            for seed in study.seeds
            for recipe in study.recipes
            for guarded in (False, True)
        ]
        for done in as_completed(tasks):
            run = done.result()
            runs.append(run)
            runs.sort(key=lambda run: (study.recipes.index(run["recipe"]), run["seed"], run["guarded"]))
            seconds = time.monotonic() - started
            pairs = list(compare(runs))
            write_json(arguments.json, {"study": asdict(study), "seconds": seconds, "pairs": pairs, "runs": runs})
            print(f"{seconds:5.0f} s  {_line(run)}", flush=True)
    report(pairs)


def _line(run: Mapping[str, Any]) -> str:
    start, end = run["probes"][0]["accuracy"], run["probes"][-1]["accuracy"]
    what = "guarded" if run["guarded"] else "unguarded"
    kept = f", kept {run['kept']:.1%}: {run['reason']}" if run["guarded"] else ""
    return f"{run['recipe']}, seed {run['seed']}, {what}: {start:.1%} -> {end:.1%} (step {run['steps']}){kept}"


if __name__ == "__main__":
    main()
