"""Whole online trainings of the tiny policy: what a test changes is named, the rest is the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from test_verification_batches import grading_tokenizer
from tiny_policy import tiny_model, tiny_tokenizer

from rlsf.answers.config import AnswerConfig
from rlsf.rewards.config import RewardsConfig
from rlsf.training.finish import TrainingResult
from rlsf.training.online import train_online
from rlsf.training.online_config import OnlineConfig

ANSWER = AnswerConfig(format="regex", pattern=r"(w[2-7])(?!\S)")
GRADED = AnswerConfig(format="regex", pattern=r"(?<!\S)([789])(?!\S)")
AGREEMENT = (0.3, 0.5, 0.4, 0.45, 0.4)

#: The trainings that are resumed, cut and divided: 4 prompts a step, 4 completions each, 2 passes over 12 prompts.
KINDS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "rloo": {"algorithm": "rloo", "beta": 0.0},
    "nft": {
        "algorithm": "nft",
        "rewards": {"majority_agreement": {}},
        "steps_per_rollout": 2,
        "num_iterations": 2,
        "prompts_per_step": 2,
    },
    "verification": {
        "rewards": {
            "self_verification": {
                "verdict": "agreement",
                "share": 0.25,
                "template": "grade {question} : {solution} end",
            }
        }
    },
    "lora": {"lora": {"rank": 4, "dropout": 0.3}},
}

#: Adam divides by the size of gradients, and makes rounding errors of the smallest ones as large as a step.
EXACT = {"trainer": {"optim": "sgd"}, "learning_rate": 0.1}


def online_config(**changes: Any) -> OnlineConfig:
    options: dict[str, Any] = {
        "rewards": {"self_certainty": {}},
        "prompts_per_step": 4,
        "num_generations": 4,
        "max_completion_length": 8,
        "learning_rate": 0.01,
        "epochs": 2.0,
        "save_every": 4,
        "guard": {"every": 4, "patience": None, "agreement_drop": None, "entropy_floor": None},
    }
    return OnlineConfig.model_validate({**options, **changes})


def rows(config: OnlineConfig, count: int = 12) -> list[dict[str, Any]]:
    tokenizer = tokenizer_of(config.rewards)
    texts = [" ".join(f"w{2 + (7 * n + k) % 28}" for k in range(2 + n % 3)) for n in range(count)]
    return [
        {
            "prompt": text,
            "prompt_id": f"q{number}",
            "prompt_ids": tokenizer(text)["input_ids"],
            "question": text,
            "choices": None,
        }
        for number, text in enumerate(texts)
    ]


def tokenizer_of(rewards: RewardsConfig) -> Any:
    return tiny_tokenizer() if rewards.self_verification is None else grading_tokenizer()


def probe(model: Any, step: int) -> dict[str, float]:
    """The agreement rises and falls; what else is measured depends on the weights and draws random numbers."""
    torch.rand(3)
    size = sum(float(weights.double().square().sum()) for weights in model.parameters())
    return {"agreement": AGREEMENT[(step // 4) % len(AGREEMENT)], "size": size}


def train(folder: Path, *, resume: bool = False, probed: list[int] | None = None, **changes: Any) -> TrainingResult:
    """Train in ``folder``; what ``train_online`` takes besides the configuration stands in ``changes`` as well.

    ``probed`` is told the steps that are probed in this process.
    """
    names = ("model", "tokenizer", "rows", "answer", "seed", "probe", "record", "reference", "allowance")
    given = {name: changes.pop(name) for name in names if name in changes}
    config = online_config(**changes)
    tokenizer = given.get("tokenizer") or tokenizer_of(config.rewards)
    arguments: dict[str, Any] = {
        "model": tiny_model(),
        "tokenizer": tokenizer,
        "rows": rows(config),
        "answer": ANSWER if config.rewards.self_verification is None else GRADED,
        "seed": 7,
        "probe": probe,
    }
    if probed is not None:
        measure = given.get("probe", probe)
        given["probe"] = lambda model, step: (probed.append(step), measure(model, step))[1]
    return train_online(
        **{**arguments, **given},
        config=config,
        folder=folder / "checkpoints",
        policy_folder=folder / "policy",
        render=lambda text: tokenizer(text)["input_ids"],
        resume=resume,
    )


def checkpoint(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """The weights of a step's checkpoint."""
    return load_file(next((folder / "checkpoints" / f"checkpoint-{step}").glob("*.safetensors")))


#: What differs from run to run although nothing else does.
_CLOCK = ("step_time", "profiling/", "runtime", "per_second")


def without_times(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if not any(clock in name for clock in _CLOCK)}


class Interrupted(Exception):
    """Stands for whatever ends a process."""


class Events:
    """Keeps what is recorded, by event and step; told again, an event must be the same. Interrupts at ``stop``."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.told: dict[tuple[str, int], dict[str, Any]] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        place, told = (event["event"], event["step"]), without_times(event)
        assert self.told.setdefault(place, told) == told
        if self.stop is not None and place == ("training", self.stop):
            raise Interrupted
