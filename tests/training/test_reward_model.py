"""The reward model: what it minimises, where it reads a reward, and that it is resumed and saved whole."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from test_trl_parity import Losses
from tiny_policy import CONTEXT, VOCABULARY, tiny_model, tiny_pairs, tiny_tokenizer
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from rlsf.errors import InputError, ModelError
from rlsf.models import ModelConfig
from rlsf.models.reward_model import load_reward_model, with_reward_head
from rlsf.scoring.reward_scores import reward_scores
from rlsf.training.config import TrainingConfig
from rlsf.training.finish import TrainingResult
from rlsf.training.pairs import prepare_pairs
from rlsf.training.reward_model import (
    build_reward_trainer,
    reward_arguments,
    train_reward_model,
    whole_sequences,
)
from rlsf.training.reward_model_config import RewardModelConfig

#: Plain gradient steps: what Adam makes of a gradient near zero depends on its rounding.
PLAIN = {"optim": "sgd", "train_sampling_strategy": "sequential"}


def config(**changes: Any) -> RewardModelConfig:
    options: dict[str, Any] = {"learning_rate": 1e-2, "max_steps": 6, "batch_size": 4, "save_every": 2}
    return RewardModelConfig(**{**options, **changes})


def train(folder: Path, **changes: Any) -> TrainingResult:
    settings = {name: changes.pop(name) for name in list(changes) if name in RewardModelConfig.model_fields}
    arguments: dict[str, Any] = {
        "model": tiny_model(),
        "tokenizer": tiny_tokenizer(),
        "preferences": tiny_pairs(),
        "config": config(**settings),
        "folder": folder / "checkpoints",
        "reward_folder": folder / "reward_model",
        "seed": 7,
        **changes,
    }
    return train_reward_model(**arguments)


def trainer_of(folder: Path, pairs: pa.Table, model: Any = None, **settings: Any) -> Any:
    chosen = config(**settings)
    model = tiny_model() if model is None else model
    arguments = reward_arguments(chosen, model, folder, seed=7)
    prepared = prepare_pairs(
        pairs, TrainingConfig(use_margin=chosen.use_margin), vocabulary_size=VOCABULARY, max_length=None
    )
    return build_reward_trainer(model, tiny_tokenizer(), prepared, chosen, arguments)


def rewards_by_hand(model: Any, pairs: pa.Table, side: str) -> torch.Tensor:
    """w . h at the last token of prompt and trace, one sequence at a time, nothing padded, in float64."""
    body, weight = copy.deepcopy(model.model).double(), model.score.weight.double()
    return torch.stack(
        [
            body(torch.tensor([row["prompt_ids"] + row[side]])).last_hidden_state[0, -1] @ weight[0]
            for row in pairs.to_pylist()
        ]
    )


@pytest.mark.parametrize(
    ("margin", "centre", "weighted"),
    [(True, 0.0, False), (True, 0.3, False), (False, 0.0, False), (False, 0.3, False), (True, 0.3, True)],
)
def test_loss_by_hand(tmp_path: Path, margin: bool, centre: float, weighted: bool) -> None:
    """-w log s(r_c - r_r - m) + c (r_c + r_r)^2; traces of different lengths, half of them without an end of
    sequence."""
    pairs = tiny_pairs(6)
    weights = torch.tensor([1.0, 0.5, 2.0, 1.0, 0.25, 3.0]) if weighted else torch.ones(6)
    if weighted:
        pairs = pairs.append_column("weight", pa.array(weights.tolist()))
    trainer = trainer_of(tmp_path, pairs, use_margin=margin, centre_rewards=centre, batch_size=6)
    chosen, rejected = (rewards_by_hand(trainer.model, pairs, f"{side}_ids") for side in ("chosen", "rejected"))
    margins = torch.tensor(pairs["margin"].to_pylist()) if margin else torch.zeros(6)
    expected = (-weights * logsigmoid(chosen - rejected - margins) + centre * (chosen + rejected) ** 2).mean()
    batch = next(iter(trainer.get_train_dataloader()))
    assert (("margin" in batch), ("weight" in batch)) == (margin, weighted)
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_cards_vector(tmp_path: Path) -> None:
    """A difference of 1 and a gap of 0.47: 1.037484 with the margin exp(0.47), 0.313262 without."""
    for use_margin, expected in ((True, 1.037484), (False, 0.313262)):
        pairs = tiny_pairs(1)
        pairs = pairs.set_column(pairs.column_names.index("margin"), "margin", pa.array([math.exp(0.47)]))
        trainer = trainer_of(tmp_path, pairs, use_margin=use_margin)
        difference = reward_difference(trainer.model, pairs)
        # The head is linear: scaling it scales the difference of rewards to 1.
        trainer.model.score.weight.data /= difference
        batch = next(iter(trainer.get_train_dataloader()))
        assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected, abs=2e-5)


def reward_difference(model: Any, pairs: pa.Table) -> float:
    return (rewards_by_hand(model, pairs, "chosen_ids") - rewards_by_hand(model, pairs, "rejected_ids")).item()


def test_gradient_of_the_head_by_hand(tmp_path: Path) -> None:
    """d loss / d w = mean of -s(-(r_c - r_r - m)) (h_c - h_r)."""
    pairs = tiny_pairs(5)
    trainer = trainer_of(tmp_path, pairs, batch_size=5)
    model = trainer.model
    trainer.compute_loss(model, next(iter(trainer.get_train_dataloader()))).backward()
    expected = torch.zeros_like(model.score.weight)
    for row in pairs.to_pylist():
        h_chosen, h_rejected = (
            model.model(torch.tensor([row["prompt_ids"] + row[side]])).last_hidden_state[0, -1].detach()
            for side in ("chosen_ids", "rejected_ids")
        )
        difference = (h_chosen - h_rejected) @ model.score.weight[0] - row["margin"]
        expected[0] -= torch.sigmoid(-difference).detach() * (h_chosen - h_rejected) / 5
    torch.testing.assert_close(model.score.weight.grad, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("last", [0, 1, 39])
def test_a_reward_is_read_at_the_last_token_whatever_it_is(tmp_path: Path, last: int) -> None:
    """Also where the tokenizer pads with the end of sequence, and traces end in it; in training and afterwards."""
    pairs = tiny_pairs(4)
    short = [[*ids[:2], last] for ids in pairs["chosen_ids"].to_pylist()]
    pairs = pairs.set_column(pairs.column_names.index("chosen_ids"), "chosen_ids", pa.array(short))
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    trainer = trainer_of(tmp_path, pairs, trainer=PLAIN)
    sequences = whole_sequences(prepare_pairs(pairs, TrainingConfig(), vocabulary_size=VOCABULARY, max_length=None))
    expected = rewards_by_hand(trainer.model, pairs, "chosen_ids").tolist()
    assert reward_scores(trainer.model, sequences["chosen_ids"]) == pytest.approx(expected, abs=1e-5)
    batch = next(iter(trainer.get_train_dataloader()))
    _, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    assert outputs.logits[:4, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_scores_depend_on_no_batch() -> None:
    model = with_reward_head(tiny_model(), seed=1)
    sequences = [[2 + (3 * n + k) % 30 for k in range(1 + n % 9)] for n in range(20)]
    alone = [reward_scores(model, [sequence])[0] for sequence in sequences]
    assert reward_scores(model, sequences, batch_tokens=24) == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) == 20
    assert model.config.pad_token_id is None
    assert reward_scores(model, []) == []
    with pytest.raises(InputError, match="sequence 1 is empty"):
        reward_scores(model, [[2], []])
    with pytest.raises(InputError, match=f"sequence 0 has {CONTEXT + 1} tokens, the reward model's context {CONTEXT}"):
        reward_scores(model, [[2] * (CONTEXT + 1)])


def test_the_head_is_the_seeds_and_the_body_the_policys() -> None:
    policy = tiny_model()
    first, same, other = (with_reward_head(policy, seed=seed) for seed in (1, 1, 2))
    assert first.model is policy.model
    assert torch.equal(first.score.weight, same.score.weight)
    assert not torch.equal(first.score.weight, other.score.weight)
    assert first.score.weight.std().item() == pytest.approx(policy.config.initializer_range, rel=0.4)
    before = torch.get_rng_state()
    with_reward_head(policy, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert policy.config.num_labels == 2


def test_the_trainer_draws_the_head_from_its_seed(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, tiny_pairs(4))
    assert torch.equal(trainer.model.score.weight, with_reward_head(tiny_model(), seed=7).score.weight)


@pytest.mark.parametrize("settings", [{}, {"use_margin": False}, {"centre_rewards": 0.1}])
def test_trajectory_of_trls_own_trainer(tmp_path: Path, settings: dict[str, Any]) -> None:
    """TRL pads with an id that ends no trace here, so that it reads rewards where we do."""
    ours, theirs = Losses(), Losses()
    pairs = tiny_pairs(12)
    trainer = trainer_of(tmp_path / "ours", pairs, max_steps=3, learning_rate=0.1, trainer=PLAIN, **settings)
    trainer.add_callback(ours)
    data = trainer.train_dataset
    oracle = RewardTrainer(
        copy.deepcopy(trainer.model),
        args=RewardConfig(
            output_dir=str(tmp_path / "trl"),
            per_device_train_batch_size=4,
            max_steps=3,
            learning_rate=0.1,
            center_rewards_coefficient=settings.get("centre_rewards"),
            max_length=None,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            pad_token="<unk>",
            **PLAIN,
        ),
        train_dataset=Dataset.from_dict({name: data[name] for name in data.column_names}),
        processing_class=tiny_tokenizer(),
        callbacks=[theirs],
    )
    trainer.train()
    oracle.train()
    assert ours.values == pytest.approx(theirs.values, abs=1e-5)
    assert max(ours.values) - min(ours.values) > 0.01
    for mine, other in zip(trainer.model.parameters(), oracle.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("weighed", [False, True])
def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path, weighed: bool) -> None:
    """7 pairs, 4 a step: the second step has passes of 2 and of 1, and none counts for more than its part."""
    pairs, trained = tiny_pairs(7), []
    if weighed:
        pairs = pairs.append_column("weight", pa.array([0.2, 1.0, 2.0, 0.0, 1.0, 3.0, 0.5]))
    for name, size in (("whole", None), ("parts", 2)):
        settings: dict[str, Any] = {"max_steps": 2, "learning_rate": 0.05, "trainer": {**PLAIN, "max_grad_norm": 1e9}}
        trainer = trainer_of(tmp_path / name, pairs, device_batch_size=size, centre_rewards=0.1, **settings)
        losses = Losses()
        trainer.add_callback(losses)
        trainer.train()
        trained.append((losses.values, trainer.model))
    (whole, first), (parts, second) = trained
    assert parts == pytest.approx(whole, abs=1e-5)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_it_learns_the_preferences_and_is_saved(tmp_path: Path) -> None:
    pairs = tiny_pairs(24)
    result = train(tmp_path, max_steps=60, batch_size=8, save_every=60)
    assert (result.pairs, result.steps, result.too_long) == (24, 60, 0)
    state = json.loads((tmp_path / "checkpoints" / "checkpoint-60" / "trainer_state.json").read_text())
    rates = [entry["learning_rate"] for entry in state["log_history"] if "learning_rate" in entry]
    assert rates == pytest.approx([1e-2 * (1 - step / 60) for step in range(60)]), "on a line to 0"
    model = load_reward_model(ModelConfig(path=str(tmp_path / "reward_model")))
    rows = pairs.to_pylist()
    chosen, rejected = (
        reward_scores(model, [row["prompt_ids"] + row[side] for row in rows]) for side in ("chosen_ids", "rejected_ids")
    )
    assert sum(c > r for c, r in zip(chosen, rejected, strict=True)) >= 23


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
    assert (cut.steps, cut.best_step, cut.metrics) == (whole.steps, whole.best_step, whole.metrics)
    expected, found = (load_file(tmp_path / name / "reward_model" / "model.safetensors") for name in ("whole", "cut"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(weights, found[name]) for name, weights in expected.items())
    again = train(tmp_path / "cut", lora=lora, resume=True)
    assert again.steps == whole.steps
    again_found = load_file(tmp_path / "cut" / "reward_model" / "model.safetensors")
    assert all(torch.equal(weights, again_found[name]) for name, weights in expected.items())


def test_adapters_are_merged_and_the_head_is_trained(tmp_path: Path) -> None:
    train(tmp_path, lora={"rank": 4}, learning_rate=0.05)
    start = with_reward_head(tiny_model(), seed=7)
    saved = load_file(tmp_path / "reward_model" / "model.safetensors")
    assert set(saved) == set(start.state_dict())
    moved = {name for name, weights in start.state_dict().items() if not torch.equal(weights, saved[name])}
    assert "score.weight" in moved
    assert "model.layers.0.self_attn.q_proj.weight" in moved
    assert not moved & {"model.embed_tokens.weight", "model.norm.weight"}


def test_what_is_saved_can_be_read_by_others(tmp_path: Path) -> None:
    """Padded with its own pad token, the saved model reads rewards at the last token, an end of sequence included."""
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    train(tmp_path, tokenizer=tokenizer)
    assert tokenizer.pad_token == tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward_model")
    assert model.config.pad_token_id == 0  # <unk>, which ends no trace
    with torch.no_grad():
        padded = model(torch.tensor([[2, 3, 1, 0, 0], [5, 6, 7, 8, 1]])).logits[0]
        assert torch.allclose(padded, model(torch.tensor([[2, 3, 1]])).logits[0], atol=1e-5)
        assert not torch.allclose(padded, model(torch.tensor([[2, 3]])).logits[0], atol=1e-3)


def test_low_precision_trains_in_float32_and_is_saved_as_it_came(tmp_path: Path) -> None:
    model = tiny_model(dtype=torch.bfloat16)
    train(tmp_path, model=model, trainer={"bf16": False})
    saved = load_file(tmp_path / "reward_model" / "model.safetensors")
    assert {weights.dtype for weights in saved.values()} == {torch.bfloat16}
    checkpoint = load_file(tmp_path / "checkpoints" / "checkpoint-6" / "model.safetensors")
    assert {weights.dtype for weights in checkpoint.values()} == {torch.float32}


def test_refusals(tmp_path: Path) -> None:
    pairs = tiny_pairs()
    with pytest.raises(InputError, match=r"no column 'margin'.*which reward_model.use_margin needs"):
        train(tmp_path, preferences=pairs.drop_columns("margin"))
    train(tmp_path / "without", preferences=pairs.drop_columns("margin"), use_margin=False)
    long = pa.table({**{name: pairs[name] for name in pairs.column_names}, "chosen_ids": [[2] * 40] * 24})
    with pytest.raises(InputError, match="all 24 preference pairs are longer than the model's context of 32"):
        train(tmp_path, preferences=long)
    with pytest.raises(ValueError, match=r"unknown option reward_model.trainer.learning_rat \(did you mean"):
        config(trainer={"learning_rat": 1})
    with pytest.raises(ValueError, match=r"reward_model\.batch_size=4 is not a multiple of"):
        config(device_batch_size=3)
    with pytest.raises(InputError, match="is no reward model: it has 2 outputs"):
        tiny_model().save_pretrained(tmp_path / "policy")
        load_reward_model(ModelConfig(path=str(tmp_path / "policy")))
    model = tiny_model()
    model.model.embed_tokens.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ModelError, match=r"gradient is not a number at training step 1: lower reward_model.learning"):
        train(tmp_path / "nan", model=model)


def test_steps() -> None:
    assert config(max_steps=None, epochs=3, batch_size=4).optimiser_steps(10) == 9
    assert config().optimiser_steps(10) == 6
