"""Tokens of a training, by hand and as its passes really read them, and the steps that a cap leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tiny_policy import tiny_model, tiny_pairs, tiny_tokenizer

from rlsf.errors import InputError
from rlsf.training import TrainingResult, train_preferences, train_weighted
from rlsf.training.acceptance import AcceptanceTrainer, JudgedAttempt, train_acceptance_model
from rlsf.training.acceptance_config import AcceptanceTrainingConfig
from rlsf.training.budget_config import BudgetConfig
from rlsf.training.config import TrainingConfig
from rlsf.training.observer import ignore
from rlsf.training.reward_model import train_reward_model
from rlsf.training.reward_model_config import RewardModelConfig
from rlsf.training.spending import Allowance
from rlsf.training.step_plan import row_tokens, step_tokens
from rlsf.training.supervised import Example
from rlsf.training.weighted_sft import RewardedExample, WeightedTrainer
from rlsf.training.weighted_sft_config import WeightedSftConfig


def of_lengths(**lengths: list[int]) -> Dataset:
    return Dataset.from_dict({name: [[7] * length for length in column] for name, column in lengths.items()})


def test_tokens_of_rows_by_hand() -> None:
    pairs = {"prompt_ids": [2, 3], "chosen_ids": [5, 1], "rejected_ids": [4, 6]}
    assert row_tokens(of_lengths(**pairs)).tolist() == [2 + 5 + 2 + 4, 3 + 1 + 3 + 6]
    assert row_tokens(of_lengths(**pairs, rejected_prompt_ids=[9, 8])).tolist() == [2 + 5 + 9 + 4, 3 + 1 + 8 + 6]
    assert row_tokens(of_lengths(chosen_ids=[7, 3], rejected_ids=[6, 2])).tolist() == [13, 5]
    assert row_tokens(of_lengths(input_ids=[3, 0, 8], labels=[3, 0, 8])).tolist() == [3, 0, 8]


def test_tokens_of_steps_by_hand() -> None:
    orders = iter([np.array([4, 0, 1, 2, 3]), np.array([0, 1, 2, 3, 4])])
    assert list(step_tokens(np.array([1, 2, 4, 8, 16]), orders, 2)) == [16 + 1, 2 + 4, 8, 1 + 2, 4 + 8, 16]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 5))
def test_an_epoch_reads_every_row_once(rows: list[int], batch: int, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    steps = list(step_tokens(np.array(rows), iter([order]), batch))
    assert sum(steps) == sum(rows)
    assert len(steps) == -(-len(rows) // batch)


def examples(count: int = 21) -> list[RewardedExample]:
    return [RewardedExample(Example([2 + n % 5] * (1 + n % 4), [9] * (1 + n % 7)), 0.5) for n in range(count)]


def attempts(count: int = 21) -> list[JudgedAttempt]:
    return [JudgedAttempt([2, *[5 + n % 9] * (1 + n % 8)], n % 3 == 0) for n in range(count)]


#: Of both kinds of training.
SMALL: dict[str, Any] = {"learning_rate": 1e-3, "save_every": 2, "batch_size": 4}


def common(folder: Path, allowed: Allowance) -> dict[str, Any]:
    """What both kinds of training are given; they are always resumed."""
    own = {"model": tiny_model(), "tokenizer": tiny_tokenizer(), "folder": folder / "checkpoints"}
    return {**own, "seed": 7, "resume": True, "allowance": allowed}


def train_examples(folder: Path, allowed: Allowance, progress: Any = ignore, **settings: Any) -> TrainingResult:
    config = WeightedSftConfig(**{**SMALL, **settings})
    own = {"examples": examples(), "policy_folder": folder / "policy", "progress": progress}
    return train_weighted(config=config, **own, **common(folder, allowed))


def train_attempts(folder: Path, allowed: Allowance, **settings: Any) -> TrainingResult:
    config = AcceptanceTrainingConfig(**{**SMALL, **settings})
    own = {"attempts": attempts(), "acceptance_folder": folder / "acceptance"}
    return train_acceptance_model(config=config, **own, **common(folder, allowed))


TRAININGS = {"examples": (train_examples, WeightedTrainer), "attempts": (train_attempts, AcceptanceTrainer)}


def read_by(trainer_class: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each optimiser step from now on, as passes read them."""
    steps: dict[int, int] = {}
    step = trainer_class.training_step

    def counted(trainer: Any, model: Any, inputs: Any, *others: Any) -> Any:
        now = trainer.state.global_step
        steps[now] = steps.get(now, 0) + int(inputs["attention_mask"].sum())
        read[:] = [steps[number] for number in sorted(steps)]
        return step(trainer, model, inputs, *others)

    read: list[int] = []
    monkeypatch.setattr(trainer_class, "training_step", counted)
    return read


@pytest.mark.parametrize("kind", TRAININGS)
@pytest.mark.parametrize("settings", [{"epochs": 1.7}, {"max_steps": 9}, {"epochs": 1.0, "device_batch_size": 2}])
def test_what_is_counted_is_what_is_read(
    tmp_path: Path, kind: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, trainer_class = TRAININGS[kind]
    read = read_by(trainer_class, monkeypatch)
    result = train(tmp_path, Allowance(), **settings)
    assert result.training_tokens == sum(read)
    assert result.steps == len(read)


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_cap_is_held_and_used_up_to_a_step(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train, trainer_class = TRAININGS[kind]
    read = read_by(trainer_class, monkeypatch)
    whole = train(tmp_path / "whole", Allowance(), epochs=2.0)
    steps = list(read)
    for kept in (1, 4, 7):
        cap = sum(steps[:kept])
        for more in (0, steps[kept] - 1):
            result = train(tmp_path / f"{kept}-{more}", Allowance(training_tokens=cap + more), epochs=2.0)
            assert (result.steps, result.training_tokens) == (kept, cap)
    enough = train(tmp_path / "enough", Allowance(training_tokens=sum(steps)), epochs=2.0)
    assert (enough.steps, enough.training_tokens) == (whole.steps, sum(steps))


def test_the_learning_rate_follows_the_planned_length(tmp_path: Path) -> None:
    """On a straight line to 0, a training that is planned for 3 steps ends where one that is asked for 3 does."""
    asked = train_attempts(tmp_path / "asked", Allowance(), max_steps=3)
    capped = train_attempts(tmp_path / "capped", Allowance(training_tokens=asked.training_tokens), max_steps=11)
    names = [
        f"{folder}/acceptance/{name}" for folder in ("asked", "capped") for name in ("model.safetensors", "config.json")
    ]
    contents = [(tmp_path / name).read_bytes() for name in names]
    assert contents[:2] == contents[2:]
    assert capped.steps == 3


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_cap_below_the_first_step_is_refused_with_what_is_enough(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, trainer_class = TRAININGS[kind]
    read = read_by(trainer_class, monkeypatch)
    train(tmp_path / "whole", Allowance(), max_steps=1)
    least = read[0]
    budget = BudgetConfig(training_tokens=least - 1)
    told = f"^budget.training_tokens={least - 1} leaves {least - 1} tokens .* set it to {least} or more$"
    with pytest.raises(InputError, match=told):
        train(tmp_path / "less", Allowance(training_tokens=least - 1, budget=budget), max_steps=1)
    assert train(tmp_path / "least", Allowance(training_tokens=least), max_steps=1).training_tokens == least


def test_both_sides_of_a_pair_count_with_their_prompts(tmp_path: Path) -> None:
    """Pairs of equal lengths: prompts of 6, chosen traces of 9 and rejected ones of 8 tokens, 8 pairs a step."""
    pairs, of_step = tiny_pairs(equal_lengths=True), 8 * (6 + 9 + 6 + 8)
    common: dict[str, Any] = {"model": tiny_model(), "tokenizer": tiny_tokenizer(), "preferences": pairs, "seed": 7}
    allowed = Allowance(training_tokens=4 * of_step + 1)
    settings: dict[str, Any] = {"max_steps": 6, "batch_size": 8, "save_every": 2, "learning_rate": 1e-3}
    policy = train_preferences(
        **common,
        config=TrainingConfig(**settings),
        folder=tmp_path / "policy-checkpoints",
        policy_folder=tmp_path / "policy",
        allowance=allowed,
    )
    reward = train_reward_model(
        **{**common, "model": tiny_model()},
        config=RewardModelConfig(**settings),
        folder=tmp_path / "reward-checkpoints",
        reward_folder=tmp_path / "reward",
        allowance=allowed,
    )
    for result in (policy, reward):
        assert (result.steps, result.training_tokens) == (4, 4 * of_step)


class Stopped(Exception):
    """In the place of a kill."""


def test_a_resumed_training_counts_the_same(tmp_path: Path) -> None:
    allowed = Allowance(training_tokens=200)
    whole = train_examples(tmp_path / "whole", allowed, max_steps=30)

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train_examples(tmp_path / "cut", allowed, stop, max_steps=30)
    again = train_examples(tmp_path / "cut", allowed, max_steps=30)
    assert whole.steps > 3
    assert (again.steps, again.training_tokens) == (whole.steps, whole.training_tokens)
    done = train_examples(tmp_path / "cut", allowed, max_steps=30)  # there is nothing left to do
    assert (done.steps, done.training_tokens) == (whole.steps, whole.training_tokens)
