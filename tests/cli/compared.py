"""A comparison that is small enough for a test, and what is left of one without what depends on the clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Sizes for whatever a recipe learns by.
FEW = (
    *("--prompts.limit", "12", "--evaluation_data.limit", "6", "--sampling.branches", "4", "--sampling.workers", "1"),
    *("--sampling.max_new_tokens", "48", "--evaluation.bootstrap", "100", "--ranking.threshold", "0"),
    *("--training.max_steps", "2", "--training.batch_size", "4", "--training.save_every", "1"),
    *("--training.selection.prompts", "2", "--training.selection.every", "2"),
    *("--online.max_steps", "2", "--online.prompts_per_step", "2", "--online.num_generations", "4"),
    *("--online.max_completion_length", "48", "--online.guard.prompts", "2", "--online.guard.every", "2"),
    *("--online.save_every", "1"),
)
_CLOCK = ("seconds", "seconds_learning", "seconds_measuring")


def figures(folder: Path) -> dict[str, Any]:
    """``comparison.json`` without seconds."""
    return _timeless(json.loads((folder / "comparison.json").read_text()))


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if key not in _CLOCK}
    return [_timeless(value) for value in content] if isinstance(content, list) else content
