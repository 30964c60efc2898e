"""Online training as a user meets it: what is refused, the model that is left, the reference, precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from online_runs import ANSWER, Events, checkpoint, online_config, rows, train
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file
from tiny_policy import tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rlsf.errors import InputError, ModelError
from rlsf.training.online import train_online
from rlsf.training.online_options import online_arguments

QUICK: dict[str, Any] = {"max_steps": 2, "probe": None}

# What is refused


def test_too_few_prompts(tmp_path: Path) -> None:
    config = online_config(steps_per_rollout=2)
    with pytest.raises(InputError, match=r"7 prompts to learn from are fewer than the 8 of one batch of rollouts"):
        train(tmp_path, rows=rows(config, 7), **{**QUICK, "steps_per_rollout": 2})


@pytest.mark.parametrize(("scale", "whitened"), [("batch", True), ("none", False)])
def test_rloo_whitens_over_the_batch_where_that_is_said(tmp_path: Path, scale: str, whitened: bool) -> None:
    options = online_config(algorithm="rloo", scale_rewards=scale)
    arguments = online_arguments(options, tiny_model(), tmp_path, 7, [1.0], {})
    assert arguments.normalize_advantages is whitened


def test_no_reward(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no reward to learn from: set one of online\.rewards"):
        train(tmp_path, rewards={}, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer": {"epsilom": 0.1}}, r"unknown option online\.trainer\.epsilom.*epsilon"),
        ({"trainer": {"use_vllm": True}}, r"online\.trainer\.use_vllm has no effect"),
        ({"trainer": {"output_dir": "x"}}, r"online\.trainer\.output_dir cannot be set"),
        ({"steps_per_rollout": 2, "save_every": 3}, r"online\.save_every=3 is not a multiple of the 2 steps"),
        ({"num_iterations": 3}, r"online\.save_every=4 is not a multiple of the 3 steps"),
        ({"save_every": 2, "num_iterations": 2, "guard": {"every": 3}}, r"online\.guard\.every=3 is not a multiple"),
        ({"stop": ["w3"], "mask_truncated_completions": True}, "leave out completions that online.stop ended"),
        ({"device_batch_size": 5}, r"online\.device_batch_size=5 does not divide the 16 completions"),
    ],
)
def test_settings_that_are_refused_before_a_model_is_loaded(options: dict[str, Any], message: str) -> None:
    with pytest.raises((InputError, ValidationError), match=message):
        online_config(**options)


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"save_steps": 3, "num_iterations": 2}, "save_steps=3 optimiser steps are not a multiple of the 2 for which"),
        ({"num_generations": 5}, r"online\.trainer: .*num_generations"),
    ],
)
def test_trainer_options_that_are_refused(trainer: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        train(tmp_path, trainer=trainer, **QUICK)


def test_a_folder_with_checkpoints_needs_resume(tmp_path: Path) -> None:
    train(tmp_path, **QUICK)
    with pytest.raises(InputError, match=r"already holds checkpoint-2: continue with --resume"):
        train(tmp_path, **QUICK)


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_numbers_that_are_none_name_the_learning_rate(algorithm: str, tmp_path: Path) -> None:
    options = {"algorithm": algorithm, "learning_rate": 1e20, "trainer": {"optim": "sgd"}, "save_every": 1}
    with pytest.raises(ModelError, match=r"lower online\.learning_rate \(now 1e\+20\)"):
        train(tmp_path, max_steps=4, probe=None, **options)
    assert checkpoint(tmp_path, 1)


def test_a_gradient_that_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlsf.training.online_trainers import OnlineGRPOTrainer

    loss = OnlineGRPOTrainer._compute_loss
    monkeypatch.setattr(OnlineGRPOTrainer, "_compute_loss", lambda *given: loss(*given) * float("nan"))
    with pytest.raises(ModelError, match=r"gradient is not a number at training step 1: lower online\.learning_rate"):
        train(tmp_path, **QUICK)


# The model at the start as a reference


def saved(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The tiny model as it is loaded from a folder, which is where a reference comes from."""
    tiny_model().to(dtype).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["full", "lora"])
def test_a_reference_holds_the_policy_back(algorithm: str, lora: Any, tmp_path: Path) -> None:
    distances = []
    for beta in (0.0, 1.0):
        events, folder = Events(), tmp_path / str(beta)
        options = {"algorithm": algorithm, "lora": lora, "beta": beta, "max_steps": 20, "probe": None}
        train(folder, model=saved(tmp_path / "start"), record=events, **options)
        kl = [event["kl"] for event in events.told.values() if "kl" in event]
        if beta:
            assert kl[0] == pytest.approx(0.0, abs=1e-6)
            assert abs(kl[-1]) > 1e-4
        distances.append(distance(folder / "policy", tmp_path / "start"))
    assert distances[1] < 0.9 * distances[0]


def test_the_reference_of_a_model_of_low_precision_is_that_model(tmp_path: Path) -> None:
    events = Events()
    model = saved(tmp_path / "start", torch.bfloat16)
    train(tmp_path, model=model, record=events, beta=0.5, **QUICK)
    assert events.told["training", 1]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert events.told["training", 2]["kl"] > 1e-4


def distance(policy: Path, start: Path) -> float:
    """Mean KL(policy || start) over the tokens of one text."""
    ids = torch.arange(2, 22)[None]
    before = AutoModelForCausalLM.from_pretrained(start)
    after = AutoModelForCausalLM.from_pretrained(start)
    if (policy / "adapter_config.json").exists():
        after = PeftModel.from_pretrained(after, policy)
    else:
        after = AutoModelForCausalLM.from_pretrained(policy)
    with torch.no_grad():
        new, old = (model(ids).logits.log_softmax(-1) for model in (after, before))
    return float((new.exp() * (new - old)).sum(-1).mean())


@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["full", "lora"])
def test_a_run_with_a_reference_is_resumed_exactly(lora: Any, tmp_path: Path) -> None:
    """The reference is the model at the start, not that of the checkpoint."""
    from online_runs import Interrupted

    options = {"beta": 0.5, "lora": lora, "save_every": 2, "max_steps": 5, "probe": None}
    events = Events()
    train(tmp_path / "whole", model=saved(tmp_path / "start"), record=events, **options)
    events.stop = 4
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", model=saved(tmp_path / "start"), record=events, **options)
    events.stop = None
    train(tmp_path / "cut", model=saved(tmp_path / "start"), record=events, resume=True, **options)
    expected, found = (checkpoint(tmp_path / name, 5) for name in ("whole", "cut"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


# What is left of the model


def test_low_precision_is_trained_in_float32_and_saved_as_it_came(tmp_path: Path) -> None:
    model = tiny_model(dtype=torch.bfloat16)
    train(tmp_path, model=model, max_steps=4, probe=None, save_every=2)
    trained, policy = checkpoint(tmp_path, 4), load_file(tmp_path / "policy" / "model.safetensors")
    assert {weights.dtype for weights in trained.values()} == {torch.float32}
    assert {weights.dtype for weights in policy.values()} == {torch.bfloat16}
    assert all(torch.equal(policy[name], weights.to(torch.bfloat16)) for name, weights in trained.items())
    assert any((weights != weights.to(torch.bfloat16)).any() for weights in trained.values()), "steps below bfloat16's"


def test_an_adapter_on_low_precision(tmp_path: Path) -> None:
    train(tmp_path, model=tiny_model(dtype=torch.bfloat16), lora={"rank": 4}, max_steps=2, probe=None)
    adapter = load_file(tmp_path / "policy" / "adapter_model.safetensors")
    assert any(weights.abs().max() > 0 for name, weights in adapter.items() if "lora_B" in name)


@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["full", "lora"])
def test_special_tokens_come_back(lora: Any, tmp_path: Path) -> None:
    """transformers overwrites the model's ids with the tokenizer's, and TRL gives the tokenizer a pad token."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    model.config.eos_token_id, model.config.bos_token_id = [5, 6], 7
    model.generation_config = GenerationConfig(eos_token_id=[5, 6], bos_token_id=7)
    train(tmp_path, model=model, tokenizer=tokenizer, lora=lora, **QUICK)
    assert (model.config.eos_token_id, model.config.bos_token_id, model.config.pad_token_id) == ([5, 6], 7, None)
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == ([5, 6], None)
    assert tokenizer.pad_token is None
    assert AutoTokenizer.from_pretrained(tmp_path / "policy").pad_token is None
    if lora is None:
        policy: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
        assert (policy.config.eos_token_id, policy.config.bos_token_id, policy.config.pad_token_id) == ([5, 6], 7, None)
        assert (policy.generation_config.eos_token_id, policy.generation_config.bos_token_id) == ([5, 6], 7)


def test_rows_are_not_changed(tmp_path: Path) -> None:
    config = online_config(max_steps=2)
    given = rows(config)
    before = [dict(row) for row in given]
    train_online(
        model=tiny_model(),
        tokenizer=tiny_tokenizer(),
        rows=given,
        config=config,
        answer=ANSWER,
        folder=tmp_path / "checkpoints",
        policy_folder=tmp_path / "policy",
        seed=1,
    )
    assert given == before
