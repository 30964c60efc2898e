"""What a run has spent on learning: tokens by its manifests and shards, seconds by its log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from rlsf.files import read_json
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import MANIFEST, read_manifest
from rlsf.pipeline.metrics import Purpose
from rlsf.pipeline.shards import counts_of, shard_paths
from rlsf.training.spending import SPENT


@dataclass(frozen=True, slots=True)
class Spent:
    """What learning took; ``seconds_measuring`` alone are of measuring.

    ``generated_tokens`` were sampled, ``training_tokens`` went forwards and backwards; what only went forwards is not
    counted. ``completions`` are what was sampled: traces, attempts, completions of online training; no answers of
    probes.
    """

    generated_tokens: int = 0
    training_tokens: int = 0
    optimiser_steps: int = 0
    completions: int = 0
    seconds_learning: float = 0.0
    seconds_measuring: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(Spent)})


def read_spent(folder: RunFolder) -> Spent:
    """What the run in ``folder`` has spent so far; all 0 before it begins.

    Tokens are those of the work that stays: what a killed process had begun and a resumed one did again counts once.
    Seconds are those of every process, whether its work stayed or not.
    """
    places = (folder.path / "traces", folder.path / "checkpoints")
    tokens = sum(map(of_stages, places), Spent())
    return replace(tokens, **_seconds(folder.metrics_file))


def of_stages(folder: Path) -> Spent:
    """Tokens, completions and steps of all stages in ``folder`` and in folders of it."""
    patterns = (f"**/{MANIFEST}", "**/part-*.parquet", f"**/checkpoint-*/{SPENT}")
    found = {path.parent.parent if path.name == SPENT else path.parent for one in patterns for path in folder.glob(one)}
    return sum(map(_of_stage, sorted(found)), Spent())


def _of_stage(folder: Path) -> Spent:
    """By the manifest; before that is written, by the shards that are finished or the last checkpoint."""
    manifest = read_manifest(folder)
    if manifest is None:
        shards = filter(None, map(counts_of, shard_paths(folder)))
        return sum((_of_samples(asdict(counts)) for counts in shards), _of_checkpoints(folder))
    return _of_samples(manifest.counts) if manifest.stage == "sample" else _of_training(manifest.counts)


def _of_samples(counts: Mapping[str, Any]) -> Spent:
    tokens = counts["tokens"] + counts.get("asking_tokens", 0)
    return Spent(generated_tokens=tokens, completions=counts["traces"])


def _of_training(counts: Mapping[str, Any]) -> Spent:
    return Spent(
        generated_tokens=counts.get("generated_tokens", 0),
        training_tokens=counts.get("training_tokens", 0),
        optimiser_steps=counts.get("steps", 0),
        completions=counts.get("completions", 0),
    )


def _of_checkpoints(folder: Path) -> Spent:
    """Of the last checkpoint, which a resumed training goes on from."""
    steps = {int(path.parent.name.removeprefix("checkpoint-")): path for path in folder.glob(f"checkpoint-*/{SPENT}")}
    return of_checkpoint(folder, max(steps)) if steps else Spent()


def of_checkpoint(folder: Path, step: int) -> Spent:
    """What a training in ``folder`` had spent by the checkpoint of a step, which there is."""
    return _of_training({**read_json(folder / f"checkpoint-{step}" / SPENT), "steps": step})


def logged(log: Path) -> list[dict[str, Any]]:
    """Every line of ``metrics.jsonl``, those that a resumed run wrote again included."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def seconds_of(events: Iterable[Mapping[str, Any]], purpose: Purpose) -> float:
    """The seconds that lines of the log say were spent for a purpose."""
    return math.fsum(event.get(f"{purpose}_seconds") or 0.0 for event in events)


def _seconds(log: Path) -> dict[str, float]:
    events = logged(log)
    return {f"seconds_{purpose}": seconds_of(events, purpose) for purpose in get_args(Purpose)}
