"""The acceptance model: what it minimises, where it reads its logit, that it learns, resumes and is saved whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_policy import CONTEXT, tiny_model, tiny_tokenizer
from torch.nn.functional import logsigmoid

from rlsf.errors import InputError, ModelError
from rlsf.models import ModelConfig
from rlsf.models.reward_model import load_reward_model, with_reward_head
from rlsf.scoring.reward_scores import reward_scores
from rlsf.training.acceptance import (
    JudgedAttempt,
    acceptance_arguments,
    build_acceptance_trainer,
    class_weights,
    train_acceptance_model,
)
from rlsf.training.acceptance_config import AcceptanceTrainingConfig
from rlsf.training.finish import TrainingResult

PLAIN = {"optim": "sgd", "train_sampling_strategy": "sequential"}


def attempts(count: int = 24) -> list[JudgedAttempt]:
    """Right ones, a third, hold token 5 where others hold 6; every other one ends in the end of sequence."""
    made = []
    for n in range(count):
        right = n % 3 == 0
        ids = [2 + n % 7, 5 if right else 6, *range(8, 8 + n % 5), *([1] if n % 2 else [])]
        made.append(JudgedAttempt(ids, right))
    return made


def config(**changes: Any) -> AcceptanceTrainingConfig:
    options: dict[str, Any] = {"learning_rate": 1e-2, "max_steps": 6, "batch_size": 4, "save_every": 2}
    return AcceptanceTrainingConfig(**{**options, **changes})


def train(folder: Path, **changes: Any) -> TrainingResult:
    settings = {name: changes.pop(name) for name in list(changes) if name in AcceptanceTrainingConfig.model_fields}
    arguments: dict[str, Any] = {
        "model": tiny_model(),
        "tokenizer": tiny_tokenizer(),
        "attempts": attempts(),
        "config": config(**settings),
        "folder": folder / "checkpoints",
        "acceptance_folder": folder / "acceptance",
        "seed": 7,
        **changes,
    }
    return train_acceptance_model(**arguments)


def trainer_of(folder: Path, judged: list[JudgedAttempt], **settings: Any) -> Any:
    model = tiny_model()
    chosen = config(**settings)
    arguments = acceptance_arguments(chosen, model, folder, seed=7)
    return build_acceptance_trainer(model, tiny_tokenizer(), judged, chosen, arguments)


def logits_by_hand(model: Any, judged: list[JudgedAttempt]) -> torch.Tensor:
    """w . h at the last token, one attempt at a time, nothing padded."""
    return torch.stack(
        [model.model(torch.tensor([one.token_ids])).last_hidden_state[0, -1] @ model.score.weight[0] for one in judged]
    )


def test_both_kinds_weigh_the_same() -> None:
    right = [True, False, False, False, True]
    wrong_weight, right_weight = class_weights(right)
    assert (wrong_weight, right_weight) == pytest.approx((5 / 6, 5 / 4))
    assert 3 * wrong_weight == pytest.approx(2 * right_weight)
    for kind in (True, False):
        with pytest.raises(InputError, match=f"all 3 attempts to learn from are {'right' if kind else 'wrong'}"):
            class_weights([kind] * 3)


def test_loss_and_gradient_by_hand(tmp_path: Path) -> None:
    judged = attempts(6)
    trainer = trainer_of(tmp_path, judged, batch_size=6, trainer=PLAIN)
    logits = logits_by_hand(trainer.model, judged)
    signs = torch.tensor([1.0 if one.right else -1.0 for one in judged])
    weights = torch.tensor([6 / (2 * 2) if one.right else 6 / (2 * 4) for one in judged])
    expected = -(weights * logsigmoid(signs * logits)).mean()
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    found, wanted = (torch.autograd.grad(one, trainer.model.score.weight)[0] for one in (loss, expected))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("device_batch", [1, 2])
def test_the_loss_does_not_depend_on_how_gradients_accumulate(tmp_path: Path, device_batch: int) -> None:
    """11 attempts, 4 a step: the last step may have passes of 2 and of 1. A limit of the norm would hide a factor."""
    runs, unlimited = {"whole": None, "parts": device_batch}, {**PLAIN, "max_grad_norm": 1e9}
    for name, size in runs.items():
        train(tmp_path / name, attempts=attempts(11), device_batch_size=size, max_steps=3, trainer=unlimited)
    whole, parts = (load_file(tmp_path / name / "acceptance" / "model.safetensors") for name in runs)
    start = with_reward_head(tiny_model(), seed=7).state_dict()
    assert any(not torch.equal(start[name], weights) for name, weights in whole.items())
    for name, weights in whole.items():
        torch.testing.assert_close(parts[name], weights, atol=2e-5, rtol=0)


def test_it_tells_right_from_wrong_and_is_saved(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    result = train(tmp_path, max_steps=60, batch_size=8, save_every=60, record=events.append)
    assert (result.examples, result.steps, result.too_long) == (24, 60, 0)
    assert events[0]["loss"] > 4 * events[-1]["loss"]
    model = load_reward_model(ModelConfig(path=str(tmp_path / "acceptance"), device="cpu"))
    scores = reward_scores(model, [list(one.token_ids) for one in attempts()])
    assert all((score > 0) == one.right for score, one in zip(scores, attempts(), strict=True))
    assert logits_by_hand(model, attempts()).tolist() == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("lora", [None, {"rank": 4, "dropout": 0.3}])
def test_interrupted_and_resumed(tmp_path: Path, lora: dict[str, Any] | None) -> None:
    class Stop(Exception):
        pass

    def stop_at(step: int, event: dict[str, Any]) -> None:
        if event["step"] == step:
            raise Stop

    whole = train(tmp_path / "whole", lora=lora)
    for step in (3, 5):
        with pytest.raises(Stop):
            train(tmp_path / "cut", lora=lora, resume=True, record=lambda event, step=step: stop_at(step, event))
    with pytest.raises(InputError, match="already holds checkpoint-4: continue with --resume"):
        train(tmp_path / "cut", lora=lora)
    cut = train(tmp_path / "cut", lora=lora, resume=True)
    assert (cut.steps, cut.metrics) == (whole.steps, whole.metrics)
    expected, found = (load_file(tmp_path / name / "acceptance" / "model.safetensors") for name in ("whole", "cut"))
    assert expected.keys() == found.keys() == with_reward_head(tiny_model(), seed=7).state_dict().keys()
    assert all(torch.equal(weights, found[name]) for name, weights in expected.items())


def test_refusals(tmp_path: Path) -> None:
    long = [JudgedAttempt([2] * (CONTEXT + 1), right) for right in (True, False)]
    result = train(tmp_path / "some", attempts=[*attempts(), *long], max_steps=1)
    assert (result.examples, result.too_long) == (24, 2)
    with pytest.raises(InputError, match=f"none of 2 attempts fits the acceptance model's context of {CONTEXT} tokens"):
        train(tmp_path, attempts=long)
    with pytest.raises(ValueError, match=r"unknown option acceptance\.training\.trainer\.optimm"):
        config(trainer={"optimm": "sgd"})
    with pytest.raises(ValueError, match="remove_unused_columns has no effect"):
        config(trainer={"remove_unused_columns": True})
    with pytest.raises(ValueError, match=r"is not a multiple of acceptance\.training\.device_batch_size=3"):
        config(device_batch_size=3)
    model = tiny_model()
    model.model.embed_tokens.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ModelError, match=r"at training step 1: lower acceptance\.training\.learning_rate"):
        train(tmp_path / "broken", model=model)
