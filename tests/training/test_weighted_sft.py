"""Reward-weighted regression: its weights, its loss by hand, steps against plain PyTorch, and exact resume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file
from tiny_policy import CONTEXT, VOCABULARY, tiny_model, tiny_tokenizer

from rlsf.errors import InputError, ModelError
from rlsf.training import TrainingResult, train_weighted
from rlsf.training.config import LoraSection, SelectionConfig
from rlsf.training.reward_weights import reward_weights
from rlsf.training.supervised import Example
from rlsf.training.warm_up import SUPERVISED_FACTOR
from rlsf.training.weighted_sft import RewardedExample
from rlsf.training.weighted_sft_config import WeightedSftConfig

FAST: dict[str, Any] = {"max_steps": 6, "batch_size": 8, "save_every": 2, "learning_rate": 1e-2}
#: For results that agree only up to rounding: Adam would turn the rounding of a gradient near zero into a whole step.
PLAIN: dict[str, Any] = {
    "max_steps": 3,
    "learning_rate": 0.05,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_ratio": 0.0,
    "max_grad_norm": 1e9,
    "trainer": {"optim": "sgd"},
}

# Weights


@pytest.mark.parametrize(("reward", "weight"), [(1.0, 12.182494), (0.0, 1.0), (-1.0, 0.082085)])
def test_published_weights(reward: float, weight: float) -> None:
    assert reward_weights([reward], 0.4)[0] == pytest.approx(weight, abs=5e-7)


rewards = st.lists(st.floats(-1, 1), min_size=1, max_size=20)


@given(rewards, st.floats(0.02, 10))
def test_normalised_weights_have_mean_one_and_the_same_ratios(given_rewards: list[float], tau: float) -> None:
    plain, normalised = reward_weights(given_rewards, tau), reward_weights(given_rewards, tau, normalise=True)
    assert math.fsum(normalised) / len(normalised) == pytest.approx(1)
    for weight, other in zip(plain, normalised, strict=True):
        assert other * plain[0] == pytest.approx(weight * normalised[0], rel=1e-9)


@given(rewards, st.floats(0.01, 10), st.floats(-1000, 1000))
def test_normalised_weights_forget_a_constant(given_rewards: list[float], tau: float, constant: float) -> None:
    moved = reward_weights([reward + constant for reward in given_rewards], tau, normalise=True)
    assert moved == pytest.approx(reward_weights(given_rewards, tau, normalise=True), rel=1e-6, abs=1e-9)


def test_the_ratio_of_best_to_worst_is_that_of_half_the_tau_on_half_the_range() -> None:
    """Confidences in [0, 1] at tau 0.2 are weighed apart as rewards in [-1, 1] are at 0.4."""
    worst, best = reward_weights([0.0, 1.0], 0.2)
    published_worst, published_best = reward_weights([-1.0, 1.0], 0.4)
    assert best / worst == pytest.approx(published_best / published_worst)


def test_weights_that_cannot_be_had() -> None:
    with pytest.raises(InputError, match=r"exp\(reward / tau\) of reward 1 at tau=0.001 is too large: raise tau"):
        reward_weights([1.0, 0.0], 0.001)
    with pytest.raises(InputError, match="tau=0 must be positive"):
        reward_weights([1.0], 0)
    assert reward_weights([1.0, 0.0], 0.001, normalise=True) == [2.0, 0.0]
    # Losses are computed in float32, whose largest number has the logarithm 88.72.
    assert torch.tensor(reward_weights([88.7], 1.0), dtype=torch.float32).isfinite().all()
    with pytest.raises(InputError, match="is too large"):
        reward_weights([88.8], 1.0)
    with pytest.raises(
        ValueError, match=r"introspection\.training\.tau: exp\(reward / tau\) of reward 1 at tau=0\.01 is"
    ):
        WeightedSftConfig(tau=0.01)
    assert WeightedSftConfig(tau=0.01, normalise_weights=True).tau == 0.01


# Training


def examples(count: int = 24, seed: int = 0) -> list[RewardedExample]:
    """Random prompts and completions of different lengths, with rewards of 1, 0 and -1."""
    random = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return random.integers(2, VOCABULARY, size=random.integers(low, high + 1)).tolist()

    return [RewardedExample(Example(ids(2, 6), [*ids(1, 8), 1]), float(random.integers(-1, 2))) for _ in range(count)]


def train(folder: Path, **changes: Any) -> TrainingResult:
    settings = {**FAST, **{k: changes.pop(k) for k in list(changes) if k in WeightedSftConfig.model_fields}}
    arguments: dict[str, Any] = {
        "model": tiny_model(),
        "tokenizer": tiny_tokenizer(),
        "examples": examples(),
        "config": WeightedSftConfig(**settings),
        "folder": folder / "checkpoints",
        "policy_folder": folder / "policy",
        "seed": 7,
        **changes,
    }
    return train_weighted(**arguments)


def weights(folder: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / "policy" / name)


def assert_equal_weights(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def nll(model: Any, example: Example) -> torch.Tensor:
    """Mean negative log-likelihood of a token of the completion."""
    prompt, completion = list(example.prompt_ids), list(example.completion_ids)
    logprobs = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return -logprobs[range(len(completion)), completion].mean()


def weighted_loss(model: Any, given_examples: list[RewardedExample], normalise: bool = False) -> torch.Tensor:
    found = reward_weights([one.reward for one in given_examples], 0.4, normalise=normalise)
    terms = [weight * nll(model, one.example) for weight, one in zip(found, given_examples, strict=True)]
    return torch.stack(terms).mean()


@pytest.mark.parametrize("normalise", [False, True])
def test_the_loss_is_the_mean_of_weight_times_nll(tmp_path: Path, normalise: bool) -> None:
    given_examples = examples(8)
    expected = weighted_loss(tiny_model().double(), given_examples, normalise).item()
    events: list[dict[str, Any]] = []
    settings = {"max_steps": 1, "normalise_weights": normalise, "record": events.append}
    result = train(tmp_path, examples=given_examples, **settings)
    assert events[0]["loss"] == pytest.approx(expected, rel=1e-5)
    unweighted = torch.stack([nll(tiny_model().double(), one.example) for one in given_examples]).mean()
    assert events[0]["nll"] == pytest.approx(unweighted.item(), rel=1e-5)
    assert (result.examples, result.too_long, result.pairs) == (8, 0, 0)


def test_steps_are_those_of_plain_pytorch(tmp_path: Path) -> None:
    """Whole batches, so that the order of the examples does not matter: three steps of gradient descent by hand."""
    given_examples = examples(8)
    train(tmp_path, examples=given_examples, **PLAIN)
    model = tiny_model().double()
    for _ in range(3):
        model.zero_grad()
        weighted_loss(model, given_examples).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter -= PLAIN["learning_rate"] * parameter.grad
    start, trained = tiny_model().state_dict(), weights(tmp_path)
    for name, tensor in model.state_dict().items():
        if name in trained:
            torch.testing.assert_close(trained[name].double(), tensor, atol=1e-4, rtol=0)
            assert (tensor - start[name]).abs().max() > 3e-3, name


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """19 examples, 8 a step: the third step has passes of 2 and of 1, and none counts for more than its part."""
    events: dict[str, list[float]] = {"whole": [], "parts": []}
    for name, size in (("whole", None), ("parts", 2)):
        settings = {**PLAIN, "examples": examples(19), "device_batch_size": size}
        train(tmp_path / name, record=lambda event, name=name: events[name].append(event["loss"]), **settings)
    assert events["parts"] == pytest.approx(events["whole"], rel=1e-4)
    start = tiny_model().state_dict()
    for tensor_name, tensor in weights(tmp_path / "whole").items():
        torch.testing.assert_close(tensor, weights(tmp_path / "parts")[tensor_name], atol=1e-5, rtol=0)
        assert (tensor - start[tensor_name]).abs().max() > 1e-3, tensor_name


def test_what_earned_more_becomes_likelier(tmp_path: Path) -> None:
    """The same beginnings, continued well and badly: what is said after training is what earned more."""
    good, bad = [5, 6, 1], [7, 8, 1]
    prompts = [[9 + place, 20] for place in range(8)]
    rewarded = [RewardedExample(Example(p, c), r) for p in prompts for c, r in ((good, 1.0), (bad, 0.0))]
    model = tiny_model()
    train(tmp_path, model=model, examples=rewarded, max_steps=40, batch_size=16)
    for prompt in prompts:
        said = model.generate(torch.tensor([prompt]), max_new_tokens=3, do_sample=False, pad_token_id=0)
        assert said[0, 2:].tolist() == good
        odds = (nll(model, Example(prompt, bad[:1])) - nll(model, Example(prompt, good[:1]))).item()
        # The optimum under the weights: odds of exp((1 - 0) / tau) = 12.18 to 1.
        assert odds == pytest.approx(2.5, abs=0.5)


def test_precision_and_special_tokens_come_back(tmp_path: Path) -> None:
    model = tiny_model(dtype=torch.bfloat16)
    train(tmp_path, model=model, max_steps=2)
    assert {tensor.dtype for tensor in weights(tmp_path).values()} == {torch.bfloat16}
    checkpoint = load_file(tmp_path / "checkpoints" / "checkpoint-2" / "model.safetensors")
    assert {tensor.dtype for tensor in checkpoint.values()} == {torch.float32}
    assert model.config.pad_token_id is None


def test_adapters_are_trained_alone_and_further(tmp_path: Path) -> None:
    train(tmp_path / "one", lora=LoraSection())
    start, ids = tiny_model(), torch.tensor([[2, 3, 4]])
    tuned: Any = PeftModel.from_pretrained(tiny_model(), tmp_path / "one" / "policy", is_trainable=True)
    assert not torch.allclose(tuned(ids).logits, start(ids).logits)
    with tuned.disable_adapter():
        assert torch.equal(tuned(ids).logits, start(ids).logits)
    train(tmp_path / "two", lora=LoraSection(), model=tuned)
    first, second = (weights(tmp_path / name, "adapter_model.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys()
    assert any(not torch.equal(tensor, second[name]) for name, tensor in first.items())


class Interrupted(Exception):
    pass


def interrupt_at(step: int):
    def record(event: dict[str, Any]) -> None:
        if event["step"] == step:
            raise Interrupted

    return record


def scripted(*agreements: float):
    return lambda model, step: {"agreement": agreements[step // 2]}


@pytest.mark.parametrize("step", [1, 3, 5])
def test_resume_is_exact(tmp_path: Path, step: int) -> None:
    settings: dict[str, Any] = {"selection": SelectionConfig(every=2), "probe": scripted(0.1, 0.3, 0.2, 0.4)}
    whole: list[dict[str, Any]] = []
    train(tmp_path / "whole", record=whole.append, **settings)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", record=interrupt_at(step), **settings)
    again: list[dict[str, Any]] = []
    result = train(tmp_path / "cut", record=again.append, resume=True, **settings)
    assert_equal_weights(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert (result.steps, result.best_step) == (6, 6)
    assert again == [event for event in whole if event in again]
    with pytest.raises(InputError, match="already holds checkpoint-6"):
        train(tmp_path / "cut")


def test_the_best_probed_step_is_saved(tmp_path: Path) -> None:
    result = train(tmp_path, selection=SelectionConfig(every=2), probe=scripted(0.1, 0.3, 0.5, 0.2))
    assert (result.steps, result.best_step) == (6, 4)
    checkpoint = load_file(tmp_path / "checkpoints" / "checkpoint-4" / "model.safetensors")
    assert_equal_weights(weights(tmp_path), checkpoint)


def test_examples_beyond_the_context_are_left_out_and_counted(tmp_path: Path) -> None:
    long, fits = (RewardedExample(Example([9] * (CONTEXT - room), [5, 6, 7, 1]), 1.0) for room in (3, 4))
    result = train(tmp_path, examples=[long, fits, *examples(6)])
    assert (result.examples, result.too_long) == (7, 1)
    with pytest.raises(InputError, match="none of 1 examples fits the model's context of 32 tokens"):
        train(tmp_path / "none", examples=[long])
    with pytest.raises(InputError, match="example 0 has no completion"):
        train(tmp_path / "empty", examples=[RewardedExample(Example([9], []), 1.0)])


def test_options(tmp_path: Path) -> None:
    assert train(tmp_path, learning_rate="auto", max_steps=1).learning_rate == pytest.approx(3e-4 * SUPERVISED_FACTOR)
    assert WeightedSftConfig(epochs=2, batch_size=16).optimiser_steps(33) == 6
    with pytest.raises(ValueError, match=r"is not a multiple of introspection\.training\.device_batch_size=3"):
        WeightedSftConfig(device_batch_size=3)
    with pytest.raises(ValueError, match=r"introspection\.training\.trainer.packing has no effect"):
        WeightedSftConfig(trainer={"packing": True})
    with pytest.raises(ValueError, match=r"unknown option introspection\.training\.trainer.optm"):
        WeightedSftConfig(trainer={"optm": "sgd"})


def test_a_gradient_that_is_not_a_number(tmp_path: Path) -> None:
    model = tiny_model()
    model.lm_head.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ModelError, match=r"gradient is not a number at training step 1: lower introspection.training"):
        train(tmp_path, model=model)
