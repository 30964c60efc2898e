"""Adapters take the steps of W + s B A written out in plain PyTorch, under every part of the preference objective."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_plain_trajectories import BETA, LEARNING_RATE, TRAINER, logprob, weights
from tiny_policy import tiny_model, tiny_pairs, tiny_tokenizer
from torch.func import functional_call

from rlsf.training.config import LoraSection, TrainingConfig
from rlsf.training.options import trainer_arguments
from rlsf.training.pairs import prepare_pairs
from rlsf.training.train import build_trainer

STEPS = 4
BATCH = 5
PAIRS = tiny_pairs(STEPS * BATCH)
RANK, ALPHA = 3, 6.0
#: Rank-stabilised.
SCALE = ALPHA / math.sqrt(RANK)
SMOOTHING, NLL_WEIGHT, MARGIN_SCALE = 0.1, 0.7, 1.5
Adapters = dict[str, tuple[torch.Tensor, torch.Tensor]]


def config(precompute: bool) -> TrainingConfig:
    return TrainingConfig(
        lora=LoraSection(rank=RANK, alpha=ALPHA, target_modules=("q_proj", "down_proj")),
        **{"batch_size": BATCH, "max_steps": STEPS, "learning_rate": LEARNING_RATE, "trainer": TRAINER},
        **{"beta": BETA, "label_smoothing": SMOOTHING, "nll_weight": NLL_WEIGHT, "precompute_reference": precompute},
        **{"use_margin": True, "margin_scale": MARGIN_SCALE, "use_weight": True},
    )


def adapters(model: Any) -> Adapters:
    """A and B by the weight that they stand beside, in float64."""
    values = {name.removeprefix("base_model.model."): value for name, value in model.named_parameters()}
    return {
        name.replace(".lora_A.default", ""): tuple(
            values[each].detach().double().clone().requires_grad_() for each in (name, name.replace("lora_A", "lora_B"))
        )
        for name in values
        if ".lora_A.default" in name
    }


class Adapted:
    """The tiny model with W + s B A in the place of W."""

    def __init__(self, model: torch.nn.Module, parts: Adapters) -> None:
        before = dict(model.named_parameters())
        self.model = model
        self.weights = {name: before[name].detach() + SCALE * b @ a for name, (a, b) in parts.items()}

    def __call__(self, ids: torch.Tensor) -> Any:
        return functional_call(self.model, self.weights, (ids,))


def plain_loss(model: torch.nn.Module, parts: Adapters, step: int) -> torch.Tensor:
    adapted, rows, terms = Adapted(model, parts), PAIRS.to_pylist(), []
    weighed = weights(rows, by_gap=True)
    for place in range(step * BATCH, (step + 1) * BATCH):
        row = rows[place]
        sides = [(row["prompt_ids"], row[name]) for name in ("chosen_ids", "rejected_ids")]
        chosen, rejected = (logprob(adapted, *side, joint=False) for side in sides)
        start = [logprob(model, *side, joint=False).detach() for side in sides]
        z = BETA * ((chosen - start[0]) - (rejected - start[1])) - MARGIN_SCALE * row["margin"]
        smoothed = (1 - SMOOTHING) * torch.log(1 + torch.exp(-z)) + SMOOTHING * torch.log(1 + torch.exp(z))
        terms.append(weighed[place] * smoothed - NLL_WEIGHT * chosen / len(row["chosen_ids"]))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("precompute", [True, False])
def test_steps_are_those_of_plain_pytorch(tmp_path: Path, precompute: bool) -> None:
    model, settings = tiny_model(), config(precompute)
    prepared = prepare_pairs(PAIRS, settings, vocabulary_size=40, max_length=None)
    arguments = trainer_arguments(settings, model, tmp_path, seed=42)
    trainer = build_trainer(model, tiny_tokenizer(), prepared, settings, arguments)
    start = adapters(trainer.model)
    parts, plain, losses = adapters(trainer.model), tiny_model().double(), []
    trainer.train()
    for step in range(STEPS):
        loss = plain_loss(plain, parts, step)
        gradients = iter(torch.autograd.grad(loss, [each for pair in parts.values() for each in pair]))
        with torch.no_grad():
            for pair in parts.values():
                for each in pair:
                    each -= LEARNING_RATE * next(gradients)
        losses.append(loss.item())
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == pytest.approx(losses, abs=1e-5)
    assert max(losses) - min(losses) > 0.1
    assert len(parts) == 4
    for name, pair in adapters(trainer.model).items():
        for mine, expected, before in zip(pair, parts[name], start[name], strict=True):
            torch.testing.assert_close(mine, expected, atol=1e-5, rtol=0, msg=name)
            assert (mine - before).abs().max() > 1e-4, name
