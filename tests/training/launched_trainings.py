"""Offline trainings of a tiny model, in one process or, under a launcher, in several; by FSDP on the CPU as well.

usage: launched_trainings.py FOLDER CASES

CASES is JSON: by name, ``kind`` (preferences, examples, comparisons or attempts), settings of its configuration, and at
will ``agreements``, what a probe of the first process says at the steps 0, 2, 4 ..., and ``resumed``, the name of an
earlier case and a step, from whose checkpoint the training goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from divided_training import RANK, leave_until

#: Steps of plain gradient descent agree up to rounding; Adam makes a whole step of the rounding of a small gradient.
PLAIN: dict[str, Any] = {
    "max_steps": 3,
    "batch_size": 8,
    "save_every": 2,
    "learning_rate": 0.1,
    "trainer": {"optim": "sgd"},
}


def train_cases(folder: Path, cases: dict[str, dict[str, Any]]) -> None:
    for name, settings in cases.items():
        told: list[dict[str, Any]] = []
        resumed = settings.pop("resumed", None)
        if resumed is not None:
            leave_until(folder / resumed["case"], folder / name, resumed["step"])
        result = train(folder / name, told, **settings)
        report = {"steps": result.steps, "best_step": result.best_step, "told": told}
        (folder / name / f"process-{RANK}.json").write_text(json.dumps(report))


def train(
    folder: Path,
    told: list[dict[str, Any]],
    *,
    kind: str,
    agreements: list[float] | None = None,
    **settings: Any,
) -> Any:
    def probe(model: Any, step: int) -> dict[str, float]:
        import torch

        logits = model(torch.tensor([[2, 3, 4]])).logits
        return {"agreement": (agreements or [])[step // 2], "logit": float(logits[0, -1].std())}

    common = {"folder": folder / "checkpoints", "seed": 7, "resume": True, "record": told.append}
    if agreements:
        settings["selection"] = {"every": 2}
        common["probe"] = probe
    return TRAININGS[kind](folder / "policy", {**PLAIN, **settings}, common)


def on_preferences(policy: Path, settings: dict[str, Any], common: dict[str, Any]) -> Any:
    from tiny_policy import tiny_model, tiny_pairs, tiny_tokenizer

    from rlsf.training import train_preferences
    from rlsf.training.config import TrainingConfig

    config = TrainingConfig(**settings)
    given: dict[str, Any] = {"model": tiny_model(), "tokenizer": tiny_tokenizer(), "preferences": tiny_pairs()}
    return train_preferences(**given, config=config, policy_folder=policy, **common)


def on_examples(policy: Path, settings: dict[str, Any], common: dict[str, Any]) -> Any:
    from tiny_policy import tiny_model, tiny_pairs, tiny_tokenizer

    from rlsf.training import train_weighted
    from rlsf.training.supervised import Example
    from rlsf.training.weighted_sft import RewardedExample
    from rlsf.training.weighted_sft_config import WeightedSftConfig

    examples = [
        RewardedExample(Example(pair["prompt_ids"], pair["chosen_ids"]), pair["margin"])
        for pair in tiny_pairs().to_pylist()
    ]
    given: dict[str, Any] = {"model": tiny_model(), "tokenizer": tiny_tokenizer(), "examples": examples}
    return train_weighted(**given, config=WeightedSftConfig(**settings), policy_folder=policy, **common)


def on_comparisons(policy: Path, settings: dict[str, Any], common: dict[str, Any]) -> Any:
    from tiny_policy import tiny_model, tiny_pairs, tiny_tokenizer

    from rlsf.training.reward_model import train_reward_model
    from rlsf.training.reward_model_config import RewardModelConfig

    given: dict[str, Any] = {"model": tiny_model(), "tokenizer": tiny_tokenizer(), "preferences": tiny_pairs()}
    return train_reward_model(**given, config=RewardModelConfig(**settings), reward_folder=policy, **common)


def on_attempts(policy: Path, settings: dict[str, Any], common: dict[str, Any]) -> Any:
    from tiny_policy import tiny_model, tiny_tokenizer

    from rlsf.training.acceptance import JudgedAttempt, train_acceptance_model
    from rlsf.training.acceptance_config import AcceptanceTrainingConfig

    random = np.random.default_rng(0)
    attempts = [
        JudgedAttempt(random.integers(2, 40, size=random.integers(3, 12)).tolist(), bool(place % 3))
        for place in range(24)
    ]
    given: dict[str, Any] = {"model": tiny_model(), "tokenizer": tiny_tokenizer(), "attempts": attempts}
    return train_acceptance_model(
        **given, config=AcceptanceTrainingConfig(**settings), acceptance_folder=policy, **common
    )


TRAININGS: dict[str, Callable[[Path, dict[str, Any], dict[str, Any]], Any]] = {
    "preferences": on_preferences,
    "examples": on_examples,
    "comparisons": on_comparisons,
    "attempts": on_attempts,
}


def launched(folder: Path, configuration: str, cases: dict[str, dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """Train the cases one after the other in two processes that ``accelerate launch`` starts as shipped."""
    from rlsf.pipeline.launchers import configuration_file

    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    options = [str(configuration_file(configuration)), "--num_processes", "2", "--main_process_port", "0"]
    return subprocess.run(
        [*accelerate, *options, __file__, str(folder), json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def take_the_cpu_for_a_gpu() -> None:
    """accelerate cuts models over accelerators alone; PyTorch's FSDP itself runs on CPUs by gloo."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    original = PartialState.__init__

    def initialise(self: PartialState, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = initialise


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        take_the_cpu_for_a_gpu()
    train_cases(Path(sys.argv[1]), json.loads(sys.argv[2]))
