"""Negative-aware fine-tuning in TRL's GRPO trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny_policy import tiny_model, tiny_tokenizer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from rlsf.errors import InputError
from rlsf.training.nft import NegativeAwareLoss
from rlsf.training.nft_objective import NftOptions

REUSED = {"steps_per_generation": 2}
ADAPTER = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


class NftTrainer(NegativeAwareLoss, GRPOTrainer):
    """What users write."""


class BesideDrGrpo(NftTrainer):
    """Trains by NFT and keeps, for each loss, the gradients of NFT and of TRL's loss on the same batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gradients: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.batches: list[dict[str, Any]] = []

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        of_trl = GRPOTrainer._compute_loss(self, model, inputs)
        self.gradients.append((flat_gradient(loss, model), flat_gradient(of_trl, model)))
        self.batches.append(inputs)
        return loss


def flat_gradient(loss: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    parts = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


def even(completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
    """Whether the first token is even: right by chance about every other time."""
    return [float(ids[0] % 2 == 0) for ids in completion_ids]


def trainer(folder: Path, kind: type = NftTrainer, reward: Any = even, **options: Any) -> Any:
    own = {name: options.pop(name) for name in ("nft", "allow_on_policy", "peft_config") if name in options}
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "learning_rate": 0.01,
        "max_steps": 2,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "epsilon": 10.0,
        "seed": 3,
    }
    return kind(
        model=tiny_model(),
        args=GRPOConfig(**(settings | options)),
        reward_funcs=reward,
        train_dataset=Dataset.from_list([{"prompt": f"w{n} w{n + 1} w{n + 5}"} for n in range(3, 11)]),
        processing_class=tiny_tokenizer(),
        **own,
    )


def run(folder: Path, *args: Any, **options: Any) -> Any:
    made = trainer(folder, *args, **options)
    made.train()
    return made


def logged(made: Any, name: str) -> list[float]:
    return [entry[name] for entry in made.state.log_history if name in entry]


def distance(pair: tuple[torch.Tensor, torch.Tensor]) -> float:
    ours, theirs = pair
    return ((ours - theirs).norm() / theirs.norm()).item()


def test_the_gradient_is_that_of_dr_grpo_on_policy_and_another_off_policy(tmp_path: Path) -> None:
    """Of two updates with the same rollouts the first is on-policy, the second is not."""
    made = run(tmp_path, BesideDrGrpo, **REUSED)
    first, second = made.gradients
    assert first[1].norm() > 0
    assert distance(first) < 1e-5
    assert distance(second) > 1e-2
    assert logged(made, "nft/ratio_max")[0] == pytest.approx(1.0, abs=1e-5)
    assert logged(made, "nft/ratio_max")[1] > 1.1


def test_gradient_accumulation_and_no_sampler_log_probabilities(tmp_path: Path) -> None:
    made = run(tmp_path, BesideDrGrpo, max_steps=1, gradient_accumulation_steps=2, allow_on_policy=True)
    assert len(made.gradients) == 2
    assert "old_per_token_logps" not in made.batches[0]
    assert all(distance(pair) < 1e-5 for pair in made.gradients)


class Ragged(BesideDrGrpo):
    """Completions of 2, 3, 4 and 5 tokens, of 8 allowed; the second was written by a tool."""

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        inputs = {key: value[:, :5] if value.dim() == 2 else value for key, value in inputs.items()}
        lengths = 2 + torch.arange(len(inputs["completion_ids"]))[:, None] % 4
        masks = {"completion_mask": (torch.arange(5) < lengths).long(), "tool_mask": (torch.arange(5) != 1).long()}
        return super()._compute_loss(model, inputs | masks)


def test_padding_and_tools_count_for_nothing_and_the_divisor_is_the_length_allowed(tmp_path: Path) -> None:
    made = run(tmp_path, Ragged, max_steps=1, allow_on_policy=True)
    assert made.batches[0]["completion_mask"].sum() == 2 * (2 + 3 + 4 + 5)
    assert distance(made.gradients[0]) < 1e-5


def test_verdicts_and_pass_rates_stay_with_their_completions(tmp_path: Path) -> None:
    """TRL shuffles the rows of a rollout before it cuts them into batches."""
    made = run(tmp_path, BesideDrGrpo, max_steps=4, steps_per_generation=4)
    rows = {key: torch.cat([batch[key] for batch in made.batches]) for key in ("verdict", "pass_rate", "advantages")}
    first = torch.cat([batch["completion_ids"][:, 0] for batch in made.batches])
    assert rows["verdict"].tolist() == (first % 2 == 0).float().tolist()
    assert torch.allclose(rows["advantages"], rows["verdict"] - rows["pass_rate"], atol=1e-6)
    assert logged(made, "nft/pass_rate") == pytest.approx([rows["verdict"].mean().item()])
    kept = (rows["pass_rate"] > 0) & (rows["pass_rate"] < 1)
    assert logged(made, "nft/kept") == pytest.approx([kept.float().mean().item()])
    assert 0 < kept.float().mean() <= 1


@pytest.mark.parametrize("reuse", [{"num_iterations": 2}, {"steps_per_generation": 4}])
def test_rollouts_are_reused(reuse: dict[str, int], tmp_path: Path) -> None:
    made = run(tmp_path, max_steps=4, **reuse)
    ratios = logged(made, "nft/ratio_max")
    assert len(ratios) == len(logged(made, "entropy")) == 4
    assert ratios[0] == pytest.approx(1.0, abs=1e-5)
    assert ratios[1] > 1.01
    assert len(logged(made, "nft/kept")) == (2 if "num_iterations" in reuse else 1)


@pytest.mark.parametrize("verdict", [0.0, 1.0, None])
def test_groups_without_contrast_move_nothing(verdict: float | None, tmp_path: Path) -> None:
    made = run(tmp_path, reward=lambda completions, **columns: [verdict] * len(completions), **REUSED)
    assert logged(made, "nft/kept") == [0.0]
    assert logged(made, "grad_norm") == [0.0, 0.0]
    before = tiny_model().state_dict()
    assert all(torch.equal(value, before[name]) for name, value in made.model.state_dict().items())


def test_a_completion_without_verdict_is_left_out(tmp_path: Path) -> None:
    def sometimes(completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
        return [None if place % 4 == 3 else float(place % 4 == 0) for place in range(len(completion_ids))]

    made = run(tmp_path, BesideDrGrpo, reward=sometimes, max_steps=1, **REUSED)
    verdicts = torch.cat([batch["verdict"] for batch in made._buffered_inputs])
    assert verdicts.isnan().sum() == 4
    assert torch.cat([batch["pass_rate"] for batch in made._buffered_inputs]).tolist() == pytest.approx([1 / 3] * 16)
    assert logged(made, "nft/kept") == [0.75]
    assert distance(made.gradients[0]) < 1e-5


def test_rewards_are_weighted_and_those_of_weight_zero_only_logged(tmp_path: Path) -> None:
    def length(completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
        return [None if len(ids) % 2 else float(len(ids)) for ids in completion_ids]

    rewards = [even, length, even]
    made = run(tmp_path, BesideDrGrpo, rewards, reward_weights=[0.9, 0.0, 0.1], max_steps=1, **REUSED)
    (batch,) = made.batches
    assert batch["verdict"].tolist() == (batch["completion_ids"][:, 0] % 2 == 0).float().tolist()


@pytest.mark.parametrize("amount", [0.5, -1.0, 2.0, float("inf")])
def test_rewards_that_are_no_verdicts_are_refused(amount: float, tmp_path: Path) -> None:
    def hesitant(completions: list[str], **columns: Any) -> list[float]:
        return [1.0] * (len(completions) - 1) + [amount]

    with pytest.raises(InputError, match=f"hesitant gave a completion {amount:g}, and NFT needs binary verdicts"):
        run(tmp_path, reward=hesitant, **REUSED)


@pytest.mark.parametrize(
    "settings",
    [{}, {"gradient_accumulation_steps": 4, "steps_per_generation": 2, "num_iterations": 2}],
    ids=["default", "all in one update"],
)
def test_training_on_policy_is_refused(settings: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gradient of Dr\. GRPO: reuse rollouts .*online\.steps_per_rollout"):
        trainer(tmp_path, **settings)
    trainer(tmp_path, allow_on_policy=True, **settings)


@pytest.mark.parametrize(
    ("settings", "neutral"),
    [
        ({"beta": 0.1, "peft_config": ADAPTER}, "beta=0.0"),
        ({"importance_sampling_level": "sequence"}, "importance_sampling_level='token'"),
        ({"top_entropy_quantile": 0.5}, "top_entropy_quantile=1.0"),
        ({"entropy_coef": 0.1}, "entropy_coef=0.0"),
        ({"off_policy_mask_threshold": 0.5}, "off_policy_mask_threshold=None"),
    ],
)
def test_terms_that_the_loss_lacks_are_refused(settings: dict[str, Any], neutral: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=neutral):
        trainer(tmp_path, **settings, **REUSED)


def test_options_reach_the_loss(tmp_path: Path) -> None:
    """Without the negative term and with w = 1, right completions alone are fitted: rejection fine-tuning."""
    made = run(tmp_path, BesideDrGrpo, nft=NftOptions("one", negative_weight=0.0), max_steps=1, **REUSED)
    (batch,) = made.batches
    model = tiny_model()
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, batch["prompt_ids"].size(1) - 1 : -1]
    logprobs = logits.log_softmax(-1).gather(2, batch["completion_ids"][:, :, None])[:, :, 0]
    chosen = (batch["verdict"] == 1) & (batch["pass_rate"] < 1)
    expected = -(logprobs * batch["completion_mask"])[chosen].sum() / (8 * 8)
    assert distance((made.gradients[0][0], flat_gradient(expected, model))) < 1e-4


def test_right_completions_become_more_frequent(tmp_path: Path) -> None:
    made = run(tmp_path, max_steps=24, **REUSED)
    rates = logged(made, "nft/pass_rate")
    assert sum(rates[-3:]) / 3 > sum(rates[:3]) / 3 + 0.2


def test_an_adapter(tmp_path: Path) -> None:
    made = run(tmp_path, peft_config=ADAPTER, **REUSED)
    assert logged(made, "nft/ratio_max")[0] == pytest.approx(1.0, abs=1e-5)
    assert logged(made, "grad_norm")[0] > 0


def test_evaluation_has_a_loss(tmp_path: Path) -> None:
    made = trainer(tmp_path, **REUSED)
    metrics = made.evaluate(made.train_dataset)
    assert abs(metrics["eval_loss"]) < 1e-5
    assert 0.0 < metrics["eval_nft/kept"] <= 1.0
