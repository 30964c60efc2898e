"""A preference training that is killed again and again.

usage: killed_training.py FOLDER SEED KILLS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from killed_children import left_alone_and_killed
from tiny_policy import tiny_model, tiny_pairs, tiny_tokenizer

from rlsf.training.config import LoraSection, SelectionConfig, TrainingConfig
from rlsf.training.train import train_preferences

AGREEMENT = (0.1, 0.2, 0.3, 0.3, 0.5, 0.4, 0.6, 0.8, 0.8, 0.7, 0.2)


def train(folder: Path) -> None:
    def probe(model: Any, step: int) -> dict[str, float]:
        return {"agreement": AGREEMENT[step // 2]}

    train_preferences(
        model=tiny_model(),
        tokenizer=tiny_tokenizer(),
        preferences=tiny_pairs(),
        config=TrainingConfig(
            max_steps=30,
            batch_size=8,
            save_every=1,
            learning_rate=1e-2,
            lora=LoraSection(dropout=0.3),
            selection=SelectionConfig(every=2, patience=3),
        ),
        folder=folder / "checkpoints",
        policy_folder=folder / "policy",
        seed=7,
        probe=probe,
        resume=True,
    )


if __name__ == "__main__":
    left_alone_and_killed(train, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
