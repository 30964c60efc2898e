"""Online training learns the same whether the completions of a prompt are read as one row or as one each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from online_runs import EXACT, Events, Interrupted, checkpoint, train
from test_online_resume import assert_same_weights
from tiny_policy import tiny_model

from rlsf.training.prefix_sharing import SharedPrompts
from rlsf.training.shared_prefix import SharedPrefix

REUSED = {"steps_per_rollout": 2, "num_iterations": 2}
SGD = EXACT["trainer"]


class Shapes:
    """What the policy and its reference are given to read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **sharing: Any) -> None:
        self.shapes: list[tuple[int, ...]] = []
        reader = SharedPrompts._reader

        def spied(trainer: Any, model: Any, prompt: int | None = None) -> Any:
            found = reader(trainer, model, prompt)
            shared = isinstance(found, SharedPrefix)
            inner = found.model if shared else found

            def spy(*, input_ids: Any, **options: Any) -> Any:
                self.shapes.append(tuple(input_ids.shape))
                return inner(input_ids=input_ids, **options)

            if not shared:
                return spy
            return SharedPrefix(spy, eager=found.eager, prompt=found.prompt, width=found.width, **sharing)

        monkeypatch.setattr(SharedPrompts, "_reader", spied)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"trainer": {**SGD, "top_entropy_quantile": 0.5, "importance_sampling_level": "sequence"}, **REUSED},
        {"loss_type": "dapo", "beta": 0.1, "lora": {"rank": 4}, "mask_truncated_completions": True},
        {"algorithm": "rloo", "device_batch_size": 8, **REUSED},
        {"algorithm": "nft", "rewards": {"majority_agreement": {}}, **REUSED},
    ],
    ids=["grpo", "high entropy of reused", "dapo, lora and truncated", "rloo reused", "nft"],
)
def test_training_is_the_same(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights within 2e-6 after steps that moved them by 0.01 and more, and the metrics of every step."""
    weights, told, read = [], [], []
    for name in ("each", "one"):
        with monkeypatch.context() as patch:
            if name == "each":
                patch.setattr(SharedPrompts, "_sharing", None)
            spy, events = Shapes(patch, saving=float("-inf")), Events()
            result = train(tmp_path / name, record=events, **{**EXACT, "epochs": 1.0, **options})
        weights.append(checkpoint(tmp_path / name, result.steps))
        told.append([event for event in events.told.values() if event["event"] == "training"])
        read.append([rows for rows, _ in spy.shapes])
    assert len(read[0]) == len(read[1])
    assert sum(read[1]) <= sum(read[0]) / 2
    start = checkpoint(tmp_path / "each", 0)
    assert max((weights[0][name] - before).abs().max() for name, before in start.items()) > 0.01
    assert max((weights[1][name] - expected).abs().max() for name, expected in weights[0].items()) < 2e-6
    for found, expected in zip(told[1], told[0], strict=True):
        assert found == pytest.approx(expected, abs=1e-4)


def test_a_policy_that_drops_out_reads_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Shapes(monkeypatch, saving=float("-inf"))
    train(tmp_path, model=tiny_model(), max_steps=1, lora={"rank": 4, "dropout": 0.3})
    assert {rows for rows, _ in spy.shapes} == {16}


def test_resumed_it_is_the_same_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy, events = Shapes(monkeypatch, saving=float("-inf")), Events()
    train(tmp_path / "whole", record=events, save_every=2)
    events.stop = 3
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", record=events, save_every=2)
    events.stop = None
    train(tmp_path / "cut", record=events, save_every=2, resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
    assert max(rows for rows, _ in spy.shapes) < 16
