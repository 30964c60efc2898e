"""Trains in child processes that are killed (SIGKILL) at random moments, then lets one finish.

usage: killed_training.py FOLDER SEED KILLS

Prints as JSON how many children were killed and after how many of the kills a half-written checkpoint lay around.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tiny_policy import tiny_model, tiny_pairs, tiny_tokenizer

from rlsf.training.checkpoints import checkpoint_steps, staging_folder
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


def child(folder: Path) -> int:
    """The process id of a child that trains to the end unless something stops it."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            train(folder)
            status = 0
        finally:
            os._exit(status)
    return process


def kill_after_progress(folder: Path, moments: random.Random) -> bool:
    """Whether the child was still alive when the signal came, a random moment after its next checkpoint."""
    before = checkpoint_steps(folder / "checkpoints")
    process = child(folder)
    while checkpoint_steps(folder / "checkpoints") == before:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    time.sleep(moments.uniform(0.0, 0.05))
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def main() -> None:
    folder, moments, kills = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    assert os.waitpid(child(folder / "whole"), 0)[1] == 0
    report = {"killed": 0, "half_written": 0, "resumed_from": []}
    for _ in range(kills):
        report["killed"] += kill_after_progress(folder / "cut", moments)
        report["half_written"] += staging_folder(folder / "cut" / "checkpoints").exists()
        report["resumed_from"] += checkpoint_steps(folder / "cut" / "checkpoints")[-1:]
    assert os.waitpid(child(folder / "cut"), 0)[1] == 0
    print(json.dumps(report))


if __name__ == "__main__":
    main()
