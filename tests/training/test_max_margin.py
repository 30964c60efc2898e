"""The objectives of inverse reinforcement learning: the card's figures, bounds, and what constants do."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_reward_model import rewards_by_hand, train, trainer_of
from tiny_policy import tiny_pairs

from rlsf.models import ModelConfig
from rlsf.models.reward_model import load_reward_model
from rlsf.scoring.reward_scores import reward_scores
from rlsf.training.max_margin import Objective, pair_loss, published_loss

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
AT = [-2.0, -0.5, 0.5, 2.0]


def losses_and_gradients(loss: object, at: list[float]) -> tuple[list[float], list[float]]:
    d = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    values = loss(d)  # pyright: ignore[reportCallIssue]
    values.sum().backward()
    assert d.grad is not None
    return values.tolist(), d.grad.tolist()


def test_the_published_loss() -> None:
    assert losses_and_gradients(published_loss, AT) == ([4.0, 1.0, -0.5, -2.0], [-2.0, -2.0, -1.0, -1.0])


def test_the_published_loss_with_a_ceiling() -> None:
    bounded = losses_and_gradients(partial(pair_loss, objective="margin"), AT)
    assert bounded == ([4.0, 1.0, -0.5, -1.0], [-2.0, -2.0, -1.0, 0.0])


def test_hinge_and_logistic() -> None:
    assert losses_and_gradients(partial(pair_loss, objective="hinge"), AT) == ([3, 1.5, 0.5, 0], [-1, -1, -1, 0])
    values, gradients = losses_and_gradients(partial(pair_loss, objective="logistic"), [0.0, 2.0])
    assert values == pytest.approx([0.6931471805599453, 0.1269280110429726])
    assert gradients == pytest.approx([-0.5, -0.11920292202211755])


@given(st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_only_the_published_loss_gains_by_scale(d: float, scale: float) -> None:
    one, scaled = (published_loss(torch.tensor(x, dtype=torch.float64)).item() for x in (d, scale * d))
    assert scaled == pytest.approx(scale * one)
    for objective in OBJECTIVES:
        assert pair_loss(torch.tensor(scale * d), objective) >= (-1 if objective == "margin" else 0)
    if d < 1:
        assert pair_loss(torch.tensor(d, dtype=torch.float64), "margin").item() == pytest.approx(one, abs=1e-9)


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=8), st.floats(-50, 50))
def test_constants_do_not_matter(rewards: list[tuple[float, float]], constant: float) -> None:
    chosen, rejected = torch.tensor(rewards, dtype=torch.float64).T
    for objective in OBJECTIVES:
        plain = pair_loss(chosen - rejected, objective)
        moved = pair_loss((chosen + constant) - (rejected + constant), objective)
        torch.testing.assert_close(moved, plain, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_trainer_minimises_the_objective(tmp_path: Path, objective: Objective) -> None:
    """By hand in float64, traces of different lengths; the term that centres rewards is kept."""
    pairs = tiny_pairs(6)
    trainer = trainer_of(tmp_path, pairs, use_margin=False, centre_rewards=0.1, batch_size=6)
    trainer.pair_loss = partial(pair_loss, objective=objective)
    chosen, rejected = (rewards_by_hand(trainer.model, pairs, f"{side}_ids") for side in ("chosen", "rejected"))
    expected = (pair_loss(chosen - rejected, objective) + 0.1 * (chosen + rejected) ** 2).mean()
    batch = next(iter(trainer.get_train_dataloader()))
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_training_orders_its_pairs_and_saves_a_reward_model(tmp_path: Path, objective: Objective) -> None:
    pairs = tiny_pairs(16)
    train(
        tmp_path,
        preferences=pairs,
        use_margin=False,
        max_steps=40,
        save_every=40,
        batch_size=8,
        pair_loss=partial(pair_loss, objective=objective),
    )
    model = load_reward_model(ModelConfig(path=str(tmp_path / "reward_model"), device="cpu"))
    rows = pairs.to_pylist()
    chosen, rejected = (
        reward_scores(model, [row["prompt_ids"] + row[f"{side}_ids"] for row in rows])
        for side in ("chosen", "rejected")
    )
    assert sum(c > r for c, r in zip(chosen, rejected, strict=True)) >= 15


def test_gradients_do_not_accumulate_over_steps(tmp_path: Path) -> None:
    """The published code never resets them: two steps here move the head by two gradients, not by three."""
    trainer = trainer_of(
        tmp_path,
        tiny_pairs(4),
        use_margin=False,
        max_steps=2,
        save_every=2,
        batch_size=4,
        learning_rate=1e-6,
        trainer={"optim": "sgd", "lr_scheduler_type": "constant", "max_grad_norm": 0.0},
    )
    trainer.pair_loss = published_loss
    before = trainer.model.score.weight.detach().clone()
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.compute_loss(trainer.model, batch).backward()
    step = 1e-6 * trainer.model.score.weight.grad.clone()
    trainer.model.zero_grad()
    trainer.train()
    moved = before - trainer.model.score.weight.detach()
    assert moved.norm().item() == pytest.approx(2 * step.norm().item(), rel=0.1)
