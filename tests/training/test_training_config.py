"""Settings that contradict each other or would have no effect are refused before anything is sampled."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from trl import DPOTrainer

from rlsf.training.config import TrainingConfig
from rlsf.training.options import TRL_LOSSES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_step": 3}, r"unknown option training.trainer.warmup_step \(did you mean 'warmup_steps'"),
        ({"output_dir": "x"}, r"output_dir cannot be set"),
        ({"label_smoothing": 0.1}, r"has no effect on TRL's sigmoid loss: set training.label_smoothing"),
        (
            {"label_smoothing": 0.1, "loss_type": ["sigmoid", "sft"]},
            r"label_smoothing has no effect on TRL's sigmoid and sft loss",
        ),
        ({"loss_type": ["sigmoid", "hingee"]}, r"loss_type names 'hingee' \(did you mean 'hinge'"),
        ({"loss_type": 3}, r"loss_type=3: give"),
        ({"label_smoothing": 0.1, "loss_type": "hinge"}, r"label_smoothing has no effect on TRL's hinge loss"),
        ({"label_smoothing_factor": 0.1}, r"label_smoothing_factor smooths tokens, and has no effect on preferences"),
    ],
)
def test_trainer_options_without_effect(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(trainer=options)


@pytest.mark.parametrize(
    "part", [{"use_margin": True}, {"use_weight": True}, {"label_smoothing": 0.1}, {"loss": "ipo"}]
)
def test_a_part_of_our_objective_beside_one_of_trls(part: dict[str, Any]) -> None:
    [name] = part
    with pytest.raises(ValueError, match=rf"training.{name} has no effect .* training.trainer.loss_type chooses"):
        TrainingConfig(trainer={"loss_type": ["hinge"]}, **part)


def test_the_losses_that_trl_knows() -> None:
    """TRL keeps no list of them but in the function that computes them."""
    source = inspect.getsource(DPOTrainer._compute_loss)
    assert set(re.findall(r'loss_type == "(\w+)"', source)) == {*TRL_LOSSES}
    smoothed = {part.split('"')[0] for part in source.split('loss_type == "')[1:] if "self.label_smoothing" in part}
    assert smoothed == {"robust", "exo_pair", "aot", "aot_unpaired"}


def test_known_trainer_options_pass_untouched() -> None:
    options = {"warmup_steps": 3, "loss_type": ["robust"], "label_smoothing": 0.1}
    assert TrainingConfig(trainer=options).trainer == options


@pytest.mark.parametrize("part", [{"use_margin": True}, {"label_smoothing": 0.1}])
def test_ipo_has_neither_margin_nor_smoothing(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"belong to training.loss=sigmoid"):
        TrainingConfig(loss="ipo", **part)


def test_a_scale_of_margins_that_are_not_used() -> None:
    with pytest.raises(ValueError, match=r"training.margin_scale=2 has no effect without training.use_margin=true"):
        TrainingConfig(margin_scale=2)
    assert TrainingConfig(margin_scale=2, use_margin=True).margin_scale == 2


def test_batches_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match=r"batch_size=16 is not a multiple of training.device_batch_size=3"):
        TrainingConfig(batch_size=16, device_batch_size=3)


@pytest.mark.parametrize("rate", [0.0, -1e-5, "fast"])
def test_learning_rates_that_are_none(rate: Any) -> None:
    with pytest.raises(ValueError, match="learning_rate"):
        TrainingConfig(learning_rate=rate)
