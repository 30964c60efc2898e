"""What a run has spent on learning: tokens by its manifests and shards, seconds by its log."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import MANIFEST, read_manifest
from rlsf.pipeline.shards import counts_of, shard_paths


@dataclass(frozen=True, slots=True)
class Spent:
    """What learning took; ``seconds_measuring`` alone is of measuring.

    ``generated_tokens`` were sampled, ``training_tokens`` went forwards and backwards, ``read_tokens`` forwards alone.
    ``completions`` are what was sampled: traces, attempts, completions of online training; no answers of probes.
    """

    generated_tokens: int = 0
    training_tokens: int = 0
    read_tokens: int = 0
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
    places = (folder.path / "traces", folder.path / "checkpoints", folder.path / "judgements")
    return sum((of_stages(place) for place in places), Spent())


def of_stages(folder: Path) -> Spent:
    """Tokens, completions and steps of all stages under ``folder``."""
    stages = {path.parent for pattern in ("**/part-*.parquet", f"**/{MANIFEST}") for path in folder.glob(pattern)}
    return sum(map(of_stage, sorted(stages)), Spent())


def of_stage(folder: Path) -> Spent:
    """The same of one stage, by its manifest, or, before that is written, by its finished shards."""
    manifest = read_manifest(folder)
    if manifest is None:
        return sum((_of_counts("sample", _held_by(path)) for path in shard_paths(folder)), Spent())
    return _of_counts(manifest.stage, manifest.counts)


def _held_by(shard: Path) -> dict[str, Any]:
    """What a shard of traces holds, by its footer."""
    counts = counts_of(shard)
    return {} if counts is None else {field.name: getattr(counts, field.name) for field in fields(counts)}


def _of_counts(stage: str, counts: Any) -> Spent:
    if stage == "sample":
        return Spent(generated_tokens=counts.get("tokens", 0), completions=counts.get("traces", 0))
    return Spent(
        generated_tokens=counts.get("generated_tokens", 0),
        training_tokens=counts.get("training_tokens", 0),
        read_tokens=counts.get("read_tokens", 0),
        optimiser_steps=counts.get("steps", 0),
        completions=counts.get("completions", 0),
    )


def events_of(folder: RunFolder) -> Iterable[dict[str, Any]]:
    """Every line of the log, those that a resumed run wrote again included."""
    if folder.metrics_file.exists():
        for line in folder.metrics_file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)
