"""What rewards of the policy's own distributions add to a GRPO step, against the same step with a constant reward.

python benchmarks/rewards.py [--quick] [--json FILE]

Two models: the bundled one on its own questions, and a random Qwen2 of four layers of the 0.5B model's width and its
vocabulary of 151,936. Three trainers take turns on the same prompts: with a constant reward, with self-certainty, and
with three internal rewards together. The figure is the median of each one's steps over that of the constant's;
completions are all of the same length, lest one variant have more to do. Other work on the same cores spoils the
figures.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging
from trl.trainer.grpo_config import GRPOConfig

from _shared import options, show, write_json
from rlsf.demo import MODEL_DIR
from rlsf.demo.tasks import generate
from rlsf.models import ModelConfig, load_model, load_tokenizer
from rlsf.rewards import SelfCertainty, TokenEntropy, TrajectoryEntropy
from rlsf.training.policy_statistics import SelfFeedbackGRPOTrainer
from sampling import random_qwen2

TOKENIZER = load_tokenizer(ModelConfig(path=str(MODEL_DIR)))


@dataclass(frozen=True, slots=True)
class Size:
    """Trainers of a variant, steps of each, prompts and completions of a prompt in a step, tokens of a completion."""

    rounds: int
    steps: int
    prompts: int
    group: int
    tokens: int


QUICK = {"bundled": Size(1, 4, 4, 8, 32), "qwen2": Size(1, 1, 1, 4, 8)}
FULL = {"bundled": Size(3, 8, 4, 8, 48), "qwen2": Size(2, 3, 2, 4, 24)}


def constant(completions: list[str], **columns: Any) -> list[float]:
    """The same reward for everything: no advantage, the same work."""
    return [1.0] * len(completions)


VARIANTS: dict[str, Callable[[], list[Any]]] = {
    "constant": lambda: [constant],
    "self-certainty": lambda: [SelfCertainty()],
    "three internal rewards": lambda: [SelfCertainty(), TokenEntropy(), TrajectoryEntropy()],
}


def model_named(name: str) -> PreTrainedModel:
    """A fresh copy."""
    if name == "bundled":
        return load_model(ModelConfig(path=str(MODEL_DIR), dtype="float32"), for_training=True)
    return random_qwen2(layers=4)


class Clock(TrainerCallback):
    """Times steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def steps_of(model: str, variant: str, size: Size, folder: Path) -> list[float]:
    """Seconds of each step but the first, which warms up. A step samples, rewards and updates."""
    clock = Clock()
    trainer = SelfFeedbackGRPOTrainer(
        model=model_named(model),
        reward_funcs=VARIANTS[variant](),
        args=GRPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=size.group * size.prompts,
            num_generations=size.group,
            max_completion_length=size.tokens,
            generation_kwargs={"min_new_tokens": size.tokens},
            gradient_checkpointing=False,
            learning_rate=1e-6,
            beta=0.0,
            max_steps=size.steps + 1,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": f"Q: {problem.text}\nA:"} for problem in generate("test", 64)]),
        processing_class=TOKENIZER,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock.seconds[1:]


def compare(model: str, size: Size) -> dict[str, Any]:
    """The variants in turn, several times over."""
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(size.rounds):
            for variant, found in seconds.items():
                found += steps_of(model, variant, size, Path(folder))
    base = median(seconds["constant"])
    return {
        variant: {"seconds": median(found), "steps": len(found), "over_constant": median(found) / base - 1}
        for variant, found in seconds.items()
    }


def main() -> None:
    """One table for both models."""
    arguments = options(__doc__.splitlines()[0]).parse_args()
    logging.disable_progress_bar()
    sizes = QUICK if arguments.quick else FULL
    figures = {model: compare(model, size) for model, size in sizes.items()}
    names = {"bundled": "bundled model", "qwen2": "Qwen2, 4 layers, V = 151,936"}
    show(
        f"a GRPO step, {torch.get_num_threads()} threads",
        ["model and reward", "s a step", "over constant"],
        [
            [f"{names[model]}: {variant}", f"{row['seconds']:.3f}", f"{100 * row['over_constant']:+.1f} %"]
            for model, rows in figures.items()
            for variant, row in rows.items()
        ],
    )
    write_json(arguments.json, {"quick": arguments.quick, "models": figures})


if __name__ == "__main__":
    main()
