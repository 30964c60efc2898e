"""What did a training reward? The bundled model beside policies that shipped recipes trained from it.

python benchmarks/audit.py [--quick] [--json FILE] [--page docs/results.md] [--recipes A B ...] [--seed N]

Each training is the shipped recipe with the demo's settings and 400 generated questions. The guard's alarms are off
and the policy of the last step counts, so that what is audited is what the reward teaches, collapse included. Each
audit asks both models 400 other questions, 30 % of them held out, and 100 labelled ones. The first row is the bundled
model against itself: what chance looks like. Two at a time, each on one thread. ``--page`` writes the table between the
marks of a Markdown page.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from _bundled import on_cpu
from _page import write_tables
from _shared import options, show, write_json
from rlsf.audit import FEATURES, AuditConfig
from rlsf.audit.result import Audit, most_telling, verdict
from rlsf.demo import MODEL_DIR, write_data
from rlsf.demo.settings import demo_settings
from rlsf.pipeline.auditing import audit_preflight, audit_stage
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.online import online_stage
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.recipes import Recipe, resolve
from rlsf.recipes.resolve import merge
from rlsf.training.guard_config import GuardConfig

#: The model against itself.
ITSELF = "(none)"
RECIPES = (ITSELF, "rlsf-online", "rlif-token-entropy", "rlif-self-certainty")
#: Everything that ends a training early, switched off.
NOTHING_STOPS = {
    name: None for name in GuardConfig.model_fields if name.endswith(("patience", "_floor", "_limit", "_drop"))
}
COLUMNS = (
    "training",
    "pairs by features, %",
    "by reward model, %",
    "what was rewarded (weight)",
    "tells most by itself, %",
    "tokens before",
    "after",
    "AUROC right/wrong, features",
    "reward model",
    "length",
    "answer_disparity",
)
SHORT = (
    "training",
    "pairs, %",
    "model",
    "rewarded",
    "by itself",
    "tokens",
    "after",
    "AUROC",
    "model",
    "length",
    "conf.",
)


@dataclass(frozen=True, slots=True)
class Study:
    """How large everything is."""

    learned_from: int = 400
    asked: int = 400
    labelled: int = 100
    steps: int = 40


QUICK = Study(learned_from=60, asked=60, labelled=20, steps=4)


def one_audit(study: Study, recipe: str, seed: int) -> dict[str, Any]:
    """Train, then audit, in a folder that is thrown away."""
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        after = MODEL_DIR if recipe == ITSELF else _train(study, recipe, seed, folder / "training")
        asked, labelled = write_data(folder, study.asked, study.labelled, seed=1)
        layer = {
            "model": _bundled(),
            "prompts": {"path": str(asked)},
            "evaluation_data": {"path": str(labelled)},
            "sampling": {"workers": 1, "max_new_tokens": 96},
            "seed": seed,
        }
        run = _run(resolve(None, None, layer), folder / "audit")
        config, trained = AuditConfig(), on_cpu(after)
        audit_preflight(run, trained, config)
        with run.open(resume=False):
            found = audit_stage(run, trained, config)
    seconds = time.monotonic() - started
    return {"recipe": recipe, "seed": seed, "audit": found.model_dump(mode="json"), "seconds": seconds}


def _train(study: Study, recipe: str, seed: int, folder: Path) -> Path:
    """The policy of the last step."""
    learned_from, _ = write_data(folder, study.learned_from, 1, seed=0)
    online = {
        "max_steps": study.steps,
        "guard": {"every": study.steps, "prompts": 16, "keep": "last", **NOTHING_STOPS},
        "save_every": study.steps,
    }
    layer = {
        "model": _bundled(),
        "prompts": {"path": str(learned_from)},
        "online": online,
        "sampling": {"workers": 1},
        "seed": seed,
    }
    resolved = resolve(recipe, None, merge(demo_settings(recipe), layer))
    with _run(resolved, folder / "run").open(resume=False) as run:
        online_stage(run)
        return run.folder.policy


def _bundled() -> dict[str, Any]:
    return on_cpu().model_dump(include={"path", "device", "dtype"})


def _run(recipe: Recipe, folder: Path) -> Run:
    return Run(recipe, RunFolder(folder), ProgressDisplay(Console(quiet=True)))  # several share the terminal


def rows(runs: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """A row for each training."""
    for run in runs:
        found = Audit.model_validate(run["audit"])
        what, share = most_telling(found)
        tokens = found.differences["tokens"]
        yield [
            run["recipe"],
            _accuracy(found, "features"),
            _accuracy(found, "model"),
            _rewarded(found),
            f"{what}: {100 * share:.0f}",
            f"{tokens.before:.1f}",
            f"{tokens.after:.1f}",
            *(_auroc(found, score) for score in ("features", "model", "tokens", "answer_disparity")),
        ]


def _accuracy(found: Audit, kind: str) -> str:
    if kind not in found.separation:
        return ""
    pairs = found.separation[kind].pairs
    bounds = "" if pairs.interval is None else f" ({100 * pairs.interval[0]:.0f} to {100 * pairs.interval[1]:.0f})"
    return f"{100 * pairs.accuracy:.0f}{bounds}"


def _rewarded(found: Audit) -> str:
    """The three largest weights whose intervals leave 0 out."""
    if found.linear is None:
        return ""
    weights = {name: found.linear.coefficients[name].value for name in found.linear.strongest()[:3]}
    named = [f"{getattr(FEATURES[name], 'more' if w > 0 else 'less')} ({w:+.1f})" for name, w in weights.items()]
    return ", ".join(named) or "nothing sure"


def _auroc(found: Audit, score: str) -> str:
    """On the start's own traces, the same for every training but for the score."""
    value = found.correctness[score]["before"].auroc if score in found.correctness else None
    return "" if value is None else f"{value:.2f}"


def main() -> None:
    """The command line."""
    parser = options("What did a training reward? Audits of policies trained on the bundled model.")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, metavar="FILE", help="a Markdown page to write the table into")
    arguments = parser.parse_args()
    study = QUICK if arguments.quick else Study()
    if arguments.quick:
        arguments.recipes = arguments.recipes[:2]
    started, runs = time.monotonic(), []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        tasks = [pool.submit(one_audit, study, recipe, arguments.seed) for recipe in arguments.recipes]
        for done in as_completed(tasks):
            run = done.result()
            runs.append(run)
            runs.sort(key=lambda run: arguments.recipes.index(run["recipe"]))
            seconds = time.monotonic() - started
            write_json(arguments.json, {"seconds": seconds, "runs": runs})
            print(f"{seconds:5.0f} s  {run['recipe']}: {verdict(Audit.model_validate(run['audit']))}", flush=True)
    table = list(rows(runs))
    show("What did a training reward?", list(SHORT), table)
    if arguments.page is not None:
        write_tables(arguments.page, {"audit": (COLUMNS, table)})


if __name__ == "__main__":
    main()
