"""Settings of runs that are small enough for a test."""

from __future__ import annotations

from pathlib import Path

from rlsf.demo import MODEL_DIR

#: What every small run has.
FEW = {
    "sampling": {"branches": 6, "max_new_tokens": 64, "workers": 1, "shard_prompts": 8},
    "evaluation": {"bootstrap": 100},
}
SMALL = {
    **FEW,
    "ranking": {"threshold": 0.0},
    "training": {
        "max_steps": 6,
        "batch_size": 4,
        "save_every": 2,
        "learning_rate": 1e-4,
        "selection": {"prompts": 4, "every": 3},
    },
}
SMALL_ONLINE = {
    **FEW,
    "online": {
        "max_steps": 4,
        "prompts_per_step": 2,
        "num_generations": 4,
        "max_completion_length": 48,
        "save_every": 2,
        "guard": {"prompts": 4, "every": 2},
    },
}


def on_bundled_model(questions: Path, test: Path) -> dict[str, dict[str, str]]:
    """The model and its questions, as a layer of a recipe."""
    return {
        "model": {"path": str(MODEL_DIR)},
        "prompts": {"path": str(questions)},
        "evaluation_data": {"path": str(test)},
    }
