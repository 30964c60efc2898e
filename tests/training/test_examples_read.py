"""The reference is computed for the pairs that training reads, and for no others."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_policy import VOCABULARY, tiny_model, tiny_pairs, tiny_tokenizer

from rlsf.errors import InputError
from rlsf.training import train_preferences
from rlsf.training.config import TrainingConfig
from rlsf.training.distinct_traces import distinct_traces
from rlsf.training.options import trainer_arguments
from rlsf.training.pairs import prepare_pairs
from rlsf.training.preference_trainer import REFERENCE, PreferenceTrainer
from rlsf.training.train import build_trainer, usable_pairs

PAIRS = tiny_pairs(rows=24)


def trainer(folder: Path, pairs: pa.Table = PAIRS, seed: int = 7, **settings: Any) -> PreferenceTrainer:
    config, model = TrainingConfig(**{"batch_size": 4, "learning_rate": 1e-2, **settings}), tiny_model()
    arguments = trainer_arguments(config, model, folder, seed)
    usable = usable_pairs(pairs, config, arguments, model)
    return build_trainer(model, tiny_tokenizer(), usable, config, arguments)


def computed(folder: Path) -> set[int]:
    reference = pq.read_table(folder / REFERENCE)
    known = {name: np.flatnonzero(~np.isnan(reference[name].to_numpy())) for name in reference.column_names}
    assert known["ref_chosen_logps"].tolist() == known["ref_rejected_logps"].tolist()
    return set(known["ref_chosen_logps"].tolist())


def read(trainer: PreferenceTrainer) -> list[int]:
    """The rows in the order in which training meets them, by the reference that their batch comes with."""
    met: list[float] = []
    inner = trainer._compute_loss

    def spying(model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        met.extend(inputs["ref_chosen_logps"].tolist())
        return inner(model, inputs, return_outputs)

    values = list(trainer.train_dataset["ref_chosen_logps"])
    rows = {value: row for row, value in enumerate(values) if not np.isnan(value)}
    assert len(rows) == len(values) - np.isnan(values).sum()
    trainer._compute_loss = spying
    trainer.train()
    return [rows[value] for value in met]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_steps": 2}, 8),
        ({"max_steps": 2, "device_batch_size": 1}, 8),
        ({"max_steps": 2, "trainer": {"gradient_accumulation_steps": 2}}, 16),
        ({"epochs": 0.3}, 8),
        ({"max_steps": 6}, 24),
        ({"epochs": 2.0}, 24),
        ({"max_steps": 3, "trainer": {"train_sampling_strategy": "sequential"}}, 12),
        ({"max_steps": 2, "trainer": {"data_seed": 3}}, 8),
        ({"max_steps": 2, "trainer": {"accelerator_config": {"use_seedable_sampler": False}}}, 24),
    ],
)
def test_what_is_computed_is_what_is_read(tmp_path: Path, settings: dict[str, Any], expected: int) -> None:
    made = trainer(tmp_path, **settings)
    assert len(computed(tmp_path)) == expected
    met = read(made)
    assert set(met) <= computed(tmp_path)
    if expected < len(PAIRS):
        assert set(met) == computed(tmp_path)
        assert len(met) == expected


def test_the_order_hangs_on_the_seed(tmp_path: Path) -> None:
    rows = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        torch.manual_seed(len(rows))
        trainer(tmp_path / name, seed=seed, max_steps=2)
        rows.append(computed(tmp_path / name))
    assert rows[0] == rows[1] != rows[2]


def test_part_of_the_reference_trains_the_same_weights(tmp_path: Path) -> None:
    """Against the reference of all pairs, which lies in the folder before training starts."""
    trainer(tmp_path / "all", max_steps=6)
    weights = []
    for folder in ("all", "part"):
        made = trainer(tmp_path / folder, max_steps=3, trainer={"optim": "sgd"}, learning_rate=0.5)
        made.train()
        weights.append(made.model.state_dict())
    assert len(computed(tmp_path / "all")) == 24
    assert len(computed(tmp_path / "part")) == 12
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-5, rtol=0)


def test_a_reference_of_fewer_pairs_than_are_read_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=2)
    trainer(tmp_path, max_steps=1)
    with pytest.raises(InputError, match=r"reference\.parquet lacks pairs that training would read now"):
        trainer(tmp_path, max_steps=3)


def test_resume_in_the_middle_of_an_epoch_reads_the_stored_part(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def record(event: dict[str, Any]) -> None:
        events.append(event)
        if event["step"] == stop:
            raise Stop

    def train(name: str, *, resume: bool) -> None:
        train_preferences(
            model=tiny_model(),
            tokenizer=tiny_tokenizer(),
            preferences=PAIRS,
            config=TrainingConfig(batch_size=4, max_steps=4, save_every=2, learning_rate=1e-2),
            folder=tmp_path / name,
            policy_folder=tmp_path / "policy",
            seed=7,
            record=record,
            resume=resume,
        )

    events: list[dict[str, Any]] = []
    stop = 0
    train("whole", resume=False)
    whole, events, stop = events, [], 3
    with pytest.raises(Stop):
        train("cut", resume=False)
    events, stop = [], 0
    train("cut", resume=True)
    assert events == whole[2:]


def test_distinct_traces_are_those_of_the_pairs() -> None:
    """Compared with a dictionary of the tokens themselves, over pairs of which many share a trace."""
    few = tiny_pairs(rows=5)
    rows = [
        {**few.slice(i, 1).to_pylist()[0], "rejected_ids": few["rejected_ids"][j].as_py()}
        for i in range(5)
        for j in range(5)
    ]
    pairs = pa.Table.from_pylist([row for row in rows if row["chosen_ids"] != row["rejected_ids"]])
    dataset = prepare_pairs(pairs, TrainingConfig(), vocabulary_size=VOCABULARY, max_length=None).dataset
    read = np.array([1, 2, 7, 19, 23])
    sides, distinct = distinct_traces(dataset, read)
    expected = [
        [(tuple(row["prompt_ids"]), tuple(row[side])) for row in dataset.select(read).to_list()]
        for side in ("chosen_ids", "rejected_ids")
    ]
    found = [(tuple(prompt), tuple(trace)) for prompt, trace in distinct]
    assert [[found[number] for number in side] for side in sides] == expected
    assert len(found) == len(set(found)) == len({*expected[0], *expected[1]}) < 2 * len(read)
    assert distinct.lengths.tolist() == [len(prompt) + len(trace) for prompt, trace in found]
    prompts = [prompt for prompt, _ in found]
    runs = [[len(trace) for _, trace in of_prompt] for _, of_prompt in itertools.groupby(found, key=lambda it: it[0])]
    assert len(runs) == len(set(prompts)) < len(found)
    assert runs == [sorted(run) for run in runs]
