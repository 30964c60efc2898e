"""What a run left in its folder, to compare one run with another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.numpy import load_file

from rlsf.pipeline.metrics import MetricsLog


def weights(folder: Path, model: str = "policy") -> dict[str, bytes]:
    """The weights of a model in a run folder, tensor by tensor."""
    return {name: tensor.tobytes() for name, tensor in load_file(folder / model / "model.safetensors").items()}


def rows(folder: Path, pattern: str = "**/*.parquet") -> dict[str, list[dict[str, Any]]]:
    """The rows of every table of a run, by the table's place."""
    return {str(path.relative_to(folder)): pq.read_table(path).to_pylist() for path in sorted(folder.glob(pattern))}


def events(folder: Path) -> list[dict[str, Any]]:
    """What was measured on the way, without what depends on the clock."""
    clock = ("seconds", "step_time", "learning_seconds", "measuring_seconds")
    measured = MetricsLog(folder / "metrics.jsonl").events()
    return [
        {key: value for key, value in event.items() if key not in clock}
        for event in measured
        if event["event"] != "time"
    ]


def manifest(folder: Path, stage: str = "checkpoints/round-1") -> dict[str, Any]:
    """The manifest of a stage."""
    return json.loads((folder / stage / "manifest.json").read_text())
