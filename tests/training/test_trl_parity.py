"""Where TRL has the same objective, our trainer takes the same steps as TRL's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from tiny_policy import tiny_model, tiny_pairs, tiny_tokenizer
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer

from rlsf.training.config import TrainingConfig
from rlsf.training.options import objective, trainer_arguments
from rlsf.training.pairs import prepare_pairs
from rlsf.training.train import build_trainer

STEPS = 3
#: Plain gradient steps: Adam divides by the gradient's own size, so that the rounding of a gradient near zero, which
#: depends on how a sum is cut among threads, would become a whole step.
OPTIONS: dict[str, Any] = {"train_sampling_strategy": "sequential", "optim": "sgd"}
LEARNING_RATE = 0.5


class Losses(TrainerCallback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.values.append(logs["loss"])


def with_eos(pairs: pa.Table) -> pa.Table:
    """TRL appends the end-of-sequence id to both texts, so both traces get it here."""
    rejected = [[*ids, 1] for ids in pairs["rejected_ids"].to_pylist()]
    return pairs.set_column(pairs.column_names.index("rejected_ids"), "rejected_ids", pa.array(rejected))


def as_text(pairs: pa.Table) -> Dataset:
    def text(ids: list[int]) -> str:
        return " ".join(f"w{token}" for token in ids if token != 1)

    return Dataset.from_list(
        [
            {
                "prompt": text(row["prompt_ids"]) + " ",
                "chosen": text(row["chosen_ids"]),
                "rejected": text(row["rejected_ids"]),
            }
            for row in pairs.to_pylist()
        ]
    )


def trl_run(pairs: pa.Table, folder: Path, batch_size: int = 4, **options: Any) -> tuple[list[float], Any]:
    model, losses = tiny_model(), Losses()
    arguments = DPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=batch_size,
        max_steps=STEPS,
        learning_rate=LEARNING_RATE,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **OPTIONS,
        **options,
    )
    trainer = DPOTrainer(
        model,
        copy.deepcopy(model),
        arguments,
        train_dataset=as_text(pairs),
        processing_class=tiny_tokenizer(),
        callbacks=[losses],
    )
    trainer.train()
    return losses.values, trainer


def our_run(pairs: pa.Table, folder: Path, batch_size: int = 4, **settings: Any) -> tuple[list[float], Any]:
    model, losses = tiny_model(), Losses()
    config = TrainingConfig(
        **{
            "batch_size": batch_size,
            "max_steps": STEPS,
            "learning_rate": LEARNING_RATE,
            "nll_weight": 0.0,
            "trainer": {**OPTIONS, "save_strategy": "no"},
            **settings,
        }
    )
    arguments = trainer_arguments(config, model, folder, seed=42)
    prepared = prepare_pairs(pairs, config, vocabulary_size=40, max_length=None)
    trainer = build_trainer(model, tiny_tokenizer(), prepared, config, arguments)
    trainer.add_callback(losses)
    trainer.train()
    return losses.values, trainer


def same_trajectory(ours: tuple[list[float], Any], theirs: tuple[list[float], Any]) -> None:
    """Losses and weights agree to float32's rounding, while the steps change the loss ten thousand times as much."""
    assert len(ours[0]) == STEPS
    assert max(ours[0]) - min(ours[0]) > 0.1
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    for (name, mine), (_, other) in zip(
        ours[1].model.named_parameters(), theirs[1].model.named_parameters(), strict=True
    ):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=0, msg=name)


def test_same_token_ids_as_the_text(tmp_path: Path) -> None:
    """The comparison is one of losses: both sides read the same batches."""
    pairs = with_eos(tiny_pairs(12))
    _, theirs = trl_run(pairs, tmp_path / "trl")
    assert theirs.train_dataset["prompt_ids"] == pairs["prompt_ids"].to_pylist()
    assert theirs.train_dataset["chosen_ids"] == pairs["chosen_ids"].to_pylist()
    assert theirs.train_dataset["rejected_ids"] == pairs["rejected_ids"].to_pylist()


@pytest.mark.parametrize("precompute", [True, False])
def test_sigmoid_trajectory(tmp_path: Path, precompute: bool) -> None:
    pairs = with_eos(tiny_pairs(12))
    theirs = trl_run(pairs, tmp_path / "trl", loss_type=["sigmoid"], beta=0.3)
    same_trajectory(our_run(pairs, tmp_path / "ours", beta=0.3, precompute_reference=precompute), theirs)


def test_accumulated_trajectory(tmp_path: Path) -> None:
    pairs = with_eos(tiny_pairs(12))
    accumulated: dict[str, Any] = {"batch_size": 2, "gradient_accumulation_steps": 2}
    theirs = trl_run(pairs, tmp_path / "trl", loss_type=["sigmoid"], beta=0.3, **accumulated)
    same_trajectory(our_run(pairs, tmp_path / "ours", beta=0.3, device_batch_size=2), theirs)


def test_beta_of_the_trainer_options_wins(tmp_path: Path) -> None:
    config = TrainingConfig(beta=0.1, trainer={"beta": 0.7})
    ours = objective(config, trainer_arguments(config, tiny_model(), tmp_path, seed=42))
    assert ours is not None
    assert ours.beta == 0.7


def test_ipo_trajectory(tmp_path: Path) -> None:
    pairs = with_eos(tiny_pairs(12))
    theirs = trl_run(pairs, tmp_path / "trl", loss_type=["ipo"], beta=0.3)
    same_trajectory(our_run(pairs, tmp_path / "ours", loss="ipo", beta=0.3), theirs)


def test_nll_trajectory_where_lengths_are_equal(tmp_path: Path) -> None:
    """TRL's ``sft`` term averages over the tokens of the batch, ours over each trace first: equal for equal lengths."""
    pairs = with_eos(tiny_pairs(12, equal_lengths=True))
    theirs = trl_run(pairs, tmp_path / "trl", loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.7])
    same_trajectory(our_run(pairs, tmp_path / "ours", nll_weight=0.7), theirs)


def test_smoothing_equals_aot_of_single_pairs(tmp_path: Path) -> None:
    """TRL ignores smoothing with ``sigmoid``; its ``aot_unpaired``, on one pair at a time, sorts nothing: cDPO."""
    pairs = with_eos(tiny_pairs(4))
    theirs = trl_run(pairs, tmp_path / "trl", batch_size=1, loss_type=["aot_unpaired"], label_smoothing=0.2, beta=0.3)
    same_trajectory(our_run(pairs, tmp_path / "ours", batch_size=1, label_smoothing=0.2, beta=0.3), theirs)
    plain = trl_run(pairs, tmp_path / "plain", batch_size=1, loss_type=["sigmoid"], label_smoothing=0.2, beta=0.3)
    assert plain[0] != pytest.approx(theirs[0], abs=1e-3)


def test_margin_equals_a_shifted_reference(tmp_path: Path) -> None:
    """-log s(beta h - m) is plain DPO with m / beta added to the chosen trace's reference log-probability."""
    pairs, beta, scale = with_eos(tiny_pairs(12)), 0.3, 1.5
    ours = our_run(pairs, tmp_path / "ours", beta=beta, use_margin=True, margin_scale=scale)
    shift = torch.tensor(pairs["margin"].to_pylist()) * scale / beta
    model, losses = tiny_model(), Losses()
    config = TrainingConfig(
        batch_size=4,
        max_steps=STEPS,
        learning_rate=LEARNING_RATE,
        beta=beta,
        trainer={**OPTIONS, "loss_type": ["sigmoid"]},
    )
    prepared = prepare_pairs(pairs, config, vocabulary_size=40, max_length=None)
    arguments = trainer_arguments(config, model, tmp_path / "oracle", seed=42)
    oracle = build_trainer(model, tiny_tokenizer(), prepared, config, arguments)
    shifted = (torch.tensor(oracle.train_dataset["ref_chosen_logps"]) + shift).tolist()
    oracle.train_dataset = oracle.train_dataset.remove_columns("ref_chosen_logps").add_column(
        "ref_chosen_logps", shifted
    )
    oracle.add_callback(losses)
    oracle.train()
    same_trajectory(ours, (losses.values, oracle))


def test_trl_objective_is_trls_own(tmp_path: Path) -> None:
    """An objective of TRL's chosen through the trainer options is computed by TRL, with nothing of ours in it."""
    pairs = with_eos(tiny_pairs(12))
    theirs = trl_run(pairs, tmp_path / "trl", loss_type=["hinge"], beta=0.3)
    ours = our_run(
        pairs,
        tmp_path / "ours",
        beta=0.3,
        nll_weight=1.0,
        trainer={**OPTIONS, "save_strategy": "no", "loss_type": ["hinge"]},
    )
    same_trajectory(ours, theirs)
