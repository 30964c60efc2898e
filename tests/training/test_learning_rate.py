"""The learning rate that is taken where none is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_policy import tiny_model

from rlsf.training.config import LoraSection, TrainingConfig
from rlsf.training.learning_rate import default_learning_rate
from rlsf.training.options import trainer_arguments


@pytest.mark.parametrize(
    ("weights", "rate"),
    [
        # the exponent is log 300 / log 1000 = 0.8257
        (50_000, 3e-4),  # below a million: the end of the line
        (1_000_000, 3e-4),
        (1_375_360, 2e-4),  # 1e-6 * 727.1^0.8257 = 2.31e-4
        (125_000_000, 6e-6),  # 1e-6 * 8^0.8257 = 5.57e-6
        (1_000_000_000, 1e-6),
        (7_000_000_000, 1e-6),
    ],
)
def test_default_by_size(weights: int, rate: float) -> None:
    assert default_learning_rate(weights, adapters=False) == rate
    assert default_learning_rate(weights, adapters=True) == pytest.approx(10 * rate)


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_larger_models_never_take_larger_steps(first: int, second: int) -> None:
    small, large = sorted((first, second))
    assert default_learning_rate(small, adapters=False) >= default_learning_rate(large, adapters=False)


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 3e-4),
        ({"lora": LoraSection()}, 3e-3),
        ({"learning_rate": 3e-5}, 3e-5),
        ({"learning_rate": 3e-5, "lora": LoraSection()}, 3e-5),
        ({"trainer": {"learning_rate": 2e-5}}, 2e-5),
    ],
)
def test_what_is_given_wins(tmp_path: Path, settings: dict[str, Any], rate: float) -> None:
    arguments = trainer_arguments(TrainingConfig(**settings), tiny_model(), tmp_path, seed=0)
    assert arguments.learning_rate == rate
