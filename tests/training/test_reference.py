"""A reference that is another model than the one trained: its log-probabilities, the loss against it, who is loaded."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from tiny_policy import tiny_model, tiny_pairs, tiny_tokenizer
from transformers import PreTrainedModel

from rlsf.errors import InputError
from rlsf.training import keep_reference, train_preferences
from rlsf.training.config import LoraSection, SelectionConfig, TrainingConfig
from rlsf.training.preference_trainer import REFERENCE

PAIRS = tiny_pairs(rows=8)
SETTINGS: dict[str, Any] = {
    "max_steps": 1,
    "batch_size": 8,
    "learning_rate": 1e-6,
    "nll_weight": 0.0,
    "rounds": 2,
    "reference": "start",
    "selection": SelectionConfig(enabled=False),
}


def logprobs(model: PreTrainedModel, side: str) -> torch.Tensor:
    """Summed log-probability of each trace, in float64, by one plain forward pass each."""
    model = model.double()
    values = []
    for row in PAIRS.to_pylist():
        ids = [*row["prompt_ids"], *row[side]]
        with torch.no_grad():
            each = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        values.append(each[range(len(ids) - 1), ids[1:]][len(row["prompt_ids"]) - 1 :].sum())
    return torch.stack(values)


def keep(folder: Path, seed: int, **settings: Any) -> None:
    keep_reference(
        lambda: tiny_model(seed),
        tokenizer=tiny_tokenizer(),
        preferences=PAIRS,
        config=TrainingConfig(**{**SETTINGS, **settings}),
        folder=folder / "checkpoints",
        seed=0,
    )


def first_step(folder: Path, seed: int, **settings: Any) -> dict[str, Any]:
    events: list[Any] = []
    train_preferences(
        model=tiny_model(seed),
        tokenizer=tiny_tokenizer(),
        preferences=PAIRS,
        config=TrainingConfig(**{**SETTINGS, **settings}),
        folder=folder / "checkpoints",
        policy_folder=folder / "policy",
        seed=0,
        record=events.append,
    )
    return next(event for event in events if event["event"] == "training")


@pytest.mark.parametrize("lora", [None, LoraSection()])
def test_log_ratios_of_a_later_round_are_against_the_first_model(tmp_path: Path, lora: LoraSection | None) -> None:
    keep(tmp_path, seed=0, lora=lora)
    stored = pq.read_table(tmp_path / "checkpoints" / REFERENCE)
    start = {side: logprobs(tiny_model(0), f"{side}_ids") for side in ("chosen", "rejected")}
    for side, expected in start.items():
        found = torch.tensor(stored[f"ref_{side}_logps"].to_pylist(), dtype=torch.float64)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    step = first_step(tmp_path, seed=1, lora=lora)
    ratios = {side: logprobs(tiny_model(1), f"{side}_ids") - start[side] for side in start}
    assert ratios["chosen"].abs().min() > 0.01
    loss = -torch.nn.functional.logsigmoid(0.1 * (ratios["chosen"] - ratios["rejected"])).mean()
    assert step["loss"] == pytest.approx(float(loss), abs=1e-4)
    assert step["logps/chosen_drift"] == pytest.approx(float(ratios["chosen"].mean()), abs=1e-4)


def test_without_it_the_reference_is_the_policy_that_is_trained(tmp_path: Path) -> None:
    step = first_step(tmp_path, seed=1)
    assert step["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert step["logps/chosen_drift"] == pytest.approx(0.0, abs=1e-5)


def test_the_reference_is_let_go_of_and_loaded_once(tmp_path: Path) -> None:
    loaded: list[weakref.ref[PreTrainedModel]] = []

    def load() -> PreTrainedModel:
        model = tiny_model(0)
        loaded.append(weakref.ref(model))
        return model

    for _ in range(2):
        keep_reference(
            load,
            tokenizer=tiny_tokenizer(),
            preferences=PAIRS,
            config=TrainingConfig(**SETTINGS),
            folder=tmp_path / "checkpoints",
            seed=0,
        )
    gc.collect()
    [model] = loaded
    assert model() is None


def test_a_reference_of_other_pairs_is_refused(tmp_path: Path) -> None:
    keep_reference(
        lambda: tiny_model(0),
        tokenizer=tiny_tokenizer(),
        preferences=tiny_pairs(rows=8, seed=1),
        config=TrainingConfig(**SETTINGS),
        folder=tmp_path / "checkpoints",
        seed=0,
    )
    with pytest.raises(InputError, match="belongs to other preference pairs"):
        first_step(tmp_path, seed=1)


def test_a_reference_that_would_be_computed_live_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"training\.reference=start needs training\.precompute_reference=true"):
        TrainingConfig(reference="start", precompute_reference=False)
    with pytest.raises(InputError, match=r"training\.reference=start: with these options"):
        keep(tmp_path, seed=0, trainer={"precompute_ref_log_probs": False})
