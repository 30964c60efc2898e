"""The warm-up: what it minimises, what it learns, and what it leaves as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_policy import CONTEXT, VOCABULARY, tiny_model, tiny_tokenizer

from rlsf.errors import InputError, ModelError
from rlsf.training.warm_up import SUPERVISED_FACTOR, Example, WarmUpResult, warm_up
from rlsf.training.warm_up_config import WarmUpConfig

FORM = [5, 6, 7, 1]


def examples(count: int = 24, seed: int = 0) -> list[Example]:
    """Random prompts and beginnings, each followed by the same form."""
    random = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return random.integers(8, VOCABULARY, size=random.integers(low, high + 1)).tolist()

    return [Example(ids(2, 6), [*ids(1, 4), *FORM]) for _ in range(count)]


def train(folder: Path, **changes: Any) -> WarmUpResult:
    settings = {"steps": 6, "batch_size": 8, "learning_rate": 1e-2}
    settings |= {name: changes.pop(name) for name in list(changes) if name in WarmUpConfig.model_fields}
    arguments: dict[str, Any] = {
        "model": tiny_model(),
        "tokenizer": tiny_tokenizer(),
        "examples": examples(),
        "config": WarmUpConfig(**settings),
        "folder": folder / "warm-up",
        "seed": 7,
        **changes,
    }
    return warm_up(**arguments)


def nll(model: Any, given: list[Example]) -> torch.Tensor:
    """Mean negative log-likelihood of the completions' tokens, one example at a time, in float64."""
    model = copy.deepcopy(model).double()
    terms = []
    for prompt, completion in given:
        ids = torch.tensor([[*prompt, *completion]])
        logprobs = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        terms += [logprobs[place, token] for place, token in enumerate(completion)]
    return -torch.stack(terms).mean()


def test_the_loss_is_that_of_the_completions_tokens_alone(tmp_path: Path) -> None:
    """Prompts and completions of different lengths in one batch: padding and prompts do not count."""
    given = examples(8)
    expected = nll(tiny_model(), given).item()
    result = train(tmp_path, examples=given, steps=1, batch_size=8)
    assert result.loss == pytest.approx(expected, abs=1e-5)
    assert (result.steps, result.examples, result.too_long, result.learning_rate) == (1, 8, 0, 1e-2)


def test_the_form_is_learned(tmp_path: Path) -> None:
    model = tiny_model()
    result = train(tmp_path, model=model, steps=60)
    assert result.loss is not None
    assert nll(model, examples()) < nll(tiny_model(), examples()) - 2
    # After the form's first token the rest follows on beginnings never seen.
    for prompt, completion in examples(8, seed=1):
        start = [*prompt, *completion[: -len(FORM) + 1]]
        said = model.generate(torch.tensor([start]), max_new_tokens=3, do_sample=False, pad_token_id=0)
        assert said[0, len(start) :].tolist() == FORM[1:]


def test_same_seed_same_weights_other_seed_other_order(tmp_path: Path) -> None:
    models = {name: tiny_model() for name in "abc"}
    for (name, model), seed in zip(models.items(), (7, 7, 8), strict=True):
        train(tmp_path / name, model=model, seed=seed, batch_size=4)
    a, b, c = (model.state_dict() for model in models.values())
    assert all(torch.equal(tensor, b[name]) for name, tensor in a.items())
    assert not torch.equal(a["lm_head.weight"], c["lm_head.weight"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_is_trained_and_otherwise_as_before(tmp_path: Path, dtype: torch.dtype) -> None:
    model, tokenizer = tiny_model(dtype=dtype), tiny_tokenizer()
    model.generation_config.eos_token_id = [1, 5]
    train(tmp_path, model=model, tokenizer=tokenizer)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert not torch.equal(model.lm_head.weight, tiny_model(dtype=dtype).lm_head.weight)
    assert not model.training
    assert "forward" not in vars(model)
    assert model.generation_config.eos_token_id == [1, 5]
    assert model.generation_config.pad_token_id is None
    assert model.config.pad_token_id is None
    assert tokenizer.pad_token is None
    assert not (tmp_path / "warm-up").exists() or not any((tmp_path / "warm-up").iterdir())


def test_a_copy_of_the_trained_model_runs_its_own_weights(tmp_path: Path) -> None:
    model = tiny_model()
    train(tmp_path, model=model)
    twin, ids = copy.deepcopy(model), torch.tensor([[2, 3, 4]])
    with torch.no_grad():
        before = twin(ids).logits
        model.lm_head.weight.zero_()
        assert torch.equal(twin(ids).logits, before)
        assert not model(ids).logits.any()


def test_an_adapter_is_trained_alone(tmp_path: Path) -> None:
    model: Any = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert isinstance(model, PeftModel)
    train(tmp_path, model=model, learning_rate=1e-1)
    ids, start = torch.tensor([[2, 3, 4]]), tiny_model()
    assert not torch.allclose(model(ids).logits, start(ids).logits)
    with model.disable_adapter():
        assert torch.equal(model(ids).logits, start(ids).logits)


def test_examples_beyond_the_context_are_left_out_and_counted(tmp_path: Path) -> None:
    long = Example([9] * (CONTEXT - 3), FORM)
    fits = Example([9] * (CONTEXT - 4), FORM)
    result = train(tmp_path, examples=[long, fits, *examples(6)])
    assert (result.examples, result.too_long) == (7, 1)
    with pytest.raises(InputError, match="none of 1 warm-up examples fits the model's context of 32 tokens"):
        train(tmp_path, examples=[long])
    with pytest.raises(InputError, match="none of 0 warm-up examples"):
        train(tmp_path, examples=[])


def test_no_steps_is_no_warm_up(tmp_path: Path) -> None:
    model = tiny_model()
    assert train(tmp_path, model=model, steps=0, examples=[]) == WarmUpResult()
    assert torch.equal(model.lm_head.weight, tiny_model().lm_head.weight)
    assert WarmUpConfig().steps == 0


def test_the_learning_rate_where_none_is_given(tmp_path: Path) -> None:
    # 3e-4 for preferences on a model this small, times ten
    assert train(tmp_path, learning_rate="auto").learning_rate == pytest.approx(3e-4 * SUPERVISED_FACTOR)


def test_a_gradient_that_is_not_a_number(tmp_path: Path) -> None:
    model = tiny_model()
    model.lm_head.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ModelError, match=r"gradient is not a number at training step 1: lower online.warm_up.learning"):
        train(tmp_path, model=model)
    assert "forward" not in vars(model)


def test_progress_is_told_every_step(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    train(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, 6) for step in range(7)]


@pytest.mark.parametrize(("steps", "completions", "prompts"), [(0, 4, 0), (10, 4, 40), (10, 3, 54)])
def test_prompts_that_it_takes(steps: int, completions: int, prompts: int) -> None:
    assert WarmUpConfig(steps=steps, batch_size=16, completions=completions).prompts == prompts
