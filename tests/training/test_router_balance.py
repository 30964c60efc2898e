"""Mixtures of experts: the loss that balances their routers is added at its own weight, by the share of a pass."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_policy import CONTEXT, VOCABULARY, tiny_pairs, tiny_tokenizer
from transformers import MixtralConfig, MixtralForCausalLM

from rlsf.training.config import TrainingConfig
from rlsf.training.options import trainer_arguments
from rlsf.training.pairs import prepare_pairs
from rlsf.training.supervised import Example
from rlsf.training.train import build_trainer
from rlsf.training.weighted_sft import RewardedExample, build_weighted_trainer, weighted_arguments
from rlsf.training.weighted_sft_config import WeightedSftConfig

COEFFICIENT = 0.3


def experts() -> MixtralForCausalLM:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        output_router_logits=True,
        router_aux_loss_coef=COEFFICIENT,
        sliding_window=None,
    )
    return MixtralForCausalLM(config).eval()


def balance_of(model: Any, batch: dict[str, Any]) -> float:
    found = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_router_logits=True)
    return found.aux_loss.item()


@pytest.mark.parametrize("rows", [2, 6])
def test_preferences_balance_their_routers(tmp_path: Path, rows: int) -> None:
    """At the reference every pair loses log 2; what is more is the balance of the pass, by its share in the step."""
    config = TrainingConfig(nll_weight=0.0, batch_size=6, device_batch_size=rows)
    model, pairs = experts(), tiny_pairs(6)
    prepared = prepare_pairs(pairs, config, vocabulary_size=VOCABULARY, max_length=None)
    trainer = build_trainer(
        model, tiny_tokenizer(), prepared, config, trainer_arguments(config, model, tmp_path, seed=1)
    )
    batch: dict[str, Any] = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        balance = balance_of(model, batch)
        loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(12))
    assert balance > 0.5
    assert loss.item() == pytest.approx((math.log(2) + COEFFICIENT * balance) * rows / 6, abs=1e-5)


@pytest.mark.parametrize("rows", [2, 6])
def test_examples_by_reward_balance_their_routers(tmp_path: Path, rows: int) -> None:
    config, model = WeightedSftConfig(batch_size=6, device_batch_size=rows), experts()
    examples = [
        RewardedExample(Example(pair["prompt_ids"], pair["chosen_ids"]), pair["margin"])
        for pair in tiny_pairs(6).to_pylist()
    ]
    arguments = weighted_arguments(config, model, tmp_path, seed=1)
    trainer = build_weighted_trainer(model, tiny_tokenizer(), examples, config, arguments)
    batch: dict[str, Any] = next(iter(trainer.get_train_dataloader()))
    losses = []
    with torch.no_grad():
        for trainer.aux_loss_enabled in (True, False):
            losses.append(trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(6)).item())
        balance = balance_of(model, batch)
    assert losses[0] - losses[1] == pytest.approx(COEFFICIENT * balance * rows / 6, abs=1e-5)
