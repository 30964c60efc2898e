"""Rewards of the policy's own distributions under TRL's GRPO and RLOO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from peft import LoraConfig
from tiny_policy import tiny_model, tiny_tokenizer
from transformers import PreTrainedModel
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.rloo_config import RLOOConfig

from rlsf.errors import InputError
from rlsf.rewards import PolicyReward, SelfCertainty, TokenEntropy, TrajectoryEntropy
from rlsf.scoring import Scorer
from rlsf.training.policy_statistics import SelfFeedbackGRPOTrainer, SelfFeedbackRLOOTrainer

TRAINERS: dict[str, tuple[type, type]] = {
    "grpo": (SelfFeedbackGRPOTrainer, GRPOConfig),
    "rloo": (SelfFeedbackRLOOTrainer, RLOOConfig),
}
TEMPERATURE = 0.7


class Watching(SelfCertainty):
    """Keeps what it was asked, and its answers."""

    def __init__(self, temperature: Any = "raw") -> None:
        super().__init__(temperature=temperature)
        self.seen: list[tuple[list[str], list[list[int]], list[float | None]]] = []

    def __call__(self, completion_ids: Any, **columns: Any) -> list[float | None]:
        rewards = super().__call__(completion_ids, **columns)
        self.seen.append((list(columns["prompts"]), [list(ids) for ids in completion_ids], rewards))
        return rewards


def run(
    kind: str, folder: Path, rewards: list[Any], steps: int = 2, model: PreTrainedModel | None = None, **options: Any
) -> Any:
    trainer_class, config_class = TRAINERS[kind]
    peft_config = options.pop("peft_config", None)
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 16,
        "temperature": TEMPERATURE,
        "learning_rate": 0.05,
        "max_steps": steps,
        "logging_steps": 1,
        "report_to": "none",
        "beta": 0.0,
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "seed": 3,
    }
    trainer = trainer_class(
        model=model or tiny_model(),
        args=config_class(**(settings | options)),
        reward_funcs=rewards,
        train_dataset=Dataset.from_list([{"prompt": f"w{n} w{n + 1} w{n + 5}"} for n in range(3, 11)]),
        processing_class=tiny_tokenizer(),
        peft_config=peft_config,
    )
    trainer.train()
    return trainer


def self_certainty(model: PreTrainedModel, prompt: str, completion: list[int], temperature: float) -> float:
    """mean_t KL(U || p_t) from ordinary logits, in float64."""
    prompt_ids = tiny_tokenizer()(prompt)["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt_ids, *completion]])).logits[0].double() / temperature
    produced = logits[len(prompt_ids) - 1 : -1].log_softmax(-1)
    return float(-(produced.mean(-1) + np.log(produced.shape[1])).mean())


@pytest.mark.parametrize("kind", TRAINERS)
@pytest.mark.parametrize("temperature", ["raw", "sampling"])
def test_the_first_batch_is_measured_by_the_policy_at_the_start(kind: str, temperature: Any, tmp_path: Path) -> None:
    reward = Watching(temperature)
    run(kind, tmp_path, [reward], steps=1)
    prompts, completions, rewards = reward.seen[0]
    divisor = 1.0 if temperature == "raw" else TEMPERATURE
    expected = [
        self_certainty(tiny_model(), prompt, ids, divisor) for prompt, ids in zip(prompts, completions, strict=True)
    ]
    assert len(set(map(len, completions))) > 1, "completions of several lengths, so that padding could matter"
    assert rewards == pytest.approx(expected, rel=1e-4)


def test_later_batches_are_measured_by_the_policy_as_it_is_then(tmp_path: Path) -> None:
    reward = Watching()
    run("grpo", tmp_path, [reward], steps=2)
    prompts, completions, rewards = reward.seen[1]
    frozen = [self_certainty(tiny_model(), prompt, ids, 1.0) for prompt, ids in zip(prompts, completions, strict=True)]
    assert np.abs(np.array(rewards, dtype=float) - frozen).max() > 1e-3


@pytest.mark.parametrize("reward", [SelfCertainty(), TokenEntropy()])
def test_one_token_completions_have_no_advantage(reward: PolicyReward, tmp_path: Path) -> None:
    """They depend on the prompt alone: measured by the distribution after the token, they would not."""
    trainer = run("grpo", tmp_path, [reward], steps=2, max_completion_length=1, learning_rate=0.0)
    logs = [entry for entry in trainer.state.log_history if "frac_reward_zero_std" in entry]
    assert len(logs) == 2
    for entry in logs:
        assert entry["frac_reward_zero_std"] == 1.0
        assert entry["grad_norm"] == pytest.approx(0.0, abs=1e-2)


def test_advantages_are_scaled_by_the_deviation_of_the_sample(tmp_path: Path) -> None:
    """TRL's convention: n - 1 in the denominator, plus 1e-4."""
    reward = Watching()
    trainer = run("grpo", tmp_path, [reward], steps=1, scale_rewards="group")
    groups = np.array(reward.seen[0][2], dtype=float).reshape(-1, 4)
    scale = groups.std(axis=1, ddof=1, keepdims=True) + 1e-4
    expected = (groups - groups.mean(axis=1, keepdims=True)) / scale
    assert np.allclose(np.array(trainer._logs["advantages"]).reshape(-1, 4), expected, rtol=1e-3, atol=1e-4)


def test_an_adapter_and_gradient_accumulation(tmp_path: Path) -> None:
    reward = Watching()
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = run("grpo", tmp_path, [reward], steps=2, gradient_accumulation_steps=2, peft_config=adapter)
    assert trainer._scorer.way == "fused"
    prompts, completions, rewards = reward.seen[0]
    expected = [self_certainty(tiny_model(), *pair, 1.0) for pair in zip(prompts, completions, strict=True)]
    assert rewards == pytest.approx(expected, rel=1e-4)


def test_mixed_precision_takes_no_logits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """TRL's own default is bf16: logits are then rounded to bfloat16, though they come back as float32."""
    trainer = run("grpo", tmp_path, [SelfCertainty()], steps=1, bf16=True)
    with trainer.accelerator.autocast():
        assert trainer._scorer.way == "fused", trainer._scorer.reason
    assert "scored by its logits" not in caplog.text


def test_one_pass_however_many_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = 0
    usual = Scorer.statistics

    def counted(self: Scorer, *args: Any, **kwargs: Any) -> Any:
        nonlocal passes
        passes += 1
        return usual(self, *args, **kwargs)

    monkeypatch.setattr(Scorer, "statistics", counted)
    rewards = [SelfCertainty(), TokenEntropy(), TrajectoryEntropy(per_token=True)]
    run("grpo", tmp_path, rewards, steps=2)
    assert passes == 2
    run("grpo", tmp_path, [lambda completions, **columns: [float(len(said)) for said in completions]], steps=2)
    assert passes == 2


def test_models_that_may_be_cut_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = run("grpo", tmp_path, [SelfCertainty()], steps=1)
    trainer._scorer = None
    monkeypatch.setattr(type(trainer.accelerator), "distributed_type", DistributedType.FSDP)
    with pytest.raises(InputError, match="FSDP"):
        trainer._measure([[2]], "raw")
