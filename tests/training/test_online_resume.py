"""An online training that is interrupted and resumed is the one that was left alone, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from killed_children import reported
from online_runs import KINDS, Events, Interrupted, probe, train
from safetensors.torch import load_file

from rlsf.training.guard import GUARD_STATE


def assert_same_weights(whole: Path, cut: Path) -> None:
    """Of every checkpoint that is left, and of the policy."""
    files = sorted(whole.rglob("*.safetensors"))
    assert files
    for path in files:
        expected, found = load_file(path), load_file(cut / path.relative_to(whole))
        assert expected.keys() == found.keys()
        for name, weights in expected.items():
            assert torch.equal(weights, found[name]), f"{path.relative_to(whole)}: {name}"


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_after_each_checkpoint(kind: str, tmp_path: Path) -> None:
    """Three times in two passes over the prompts; what is told, decided and saved is what it would have been."""
    options = {"save_every": 1 if KINDS[kind].get("steps_per_rollout", 1) == 1 else 4, **KINDS[kind]}
    events = Events()
    whole = train(tmp_path / "whole", record=events, **options)
    for stop in range(options["save_every"] + 1, whole.steps, max(2, options["save_every"])):
        events.stop = stop
        with pytest.raises(Interrupted):
            train(tmp_path / "cut", record=events, resume=True, **options)
    events.stop = None
    told = dict(events.told)
    cut = train(tmp_path / "cut", record=events, resume=True, **options)
    assert events.told == told
    assert (cut.steps, cut.best_step, cut.reason, cut.probes) == (
        whole.steps,
        whole.best_step,
        whole.reason,
        whole.probes,
    )
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
    last = Path("checkpoints") / f"checkpoint-{whole.steps}" / GUARD_STATE
    assert (tmp_path / "whole" / last).read_text() == (tmp_path / "cut" / last).read_text()


@pytest.mark.slow
def test_killed_and_resumed_equals_left_alone(tmp_path: Path) -> None:
    report = reported(Path(__file__).with_name("killed_online_training.py"), tmp_path, 1, 4)
    assert report["killed"] >= 2, report
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    whole = train(tmp_path)
    weights = load_file(tmp_path / "policy" / "model.safetensors")

    def never(model: Any, step: int) -> dict[str, float]:
        raise AssertionError("the probe of a training that is at its end")

    again = train(tmp_path, resume=True, probe=never)
    assert (again.steps, again.best_step, again.probes) == (whole.steps, whole.best_step, whole.probes)
    assert all(
        torch.equal(found, weights[name])
        for name, found in load_file(tmp_path / "policy" / "model.safetensors").items()
    )


# The guard ends a training


def narrow(model: Any, step: int) -> dict[str, float]:
    return {**probe(model, step), "agreement": 0.9 if step < 4 else 0.5}


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"guard": {"agreement_drop": 0.1, "every": 4, "prompts": 1000}, "probe": narrow}, {4}),
        ({"guard": {"entropy_floor": 0.99, "persistence": 1, "every": 8}}, {5, 9, 13, 17, 21}),
    ],
    ids=["a probe", "rollouts"],
)
def test_the_guards_stop_is_saved_and_nothing_is_trained_after_it(
    options: dict[str, Any], steps: set[int], tmp_path: Path
) -> None:
    """Also inside of a batch of rollouts, where no checkpoint would be resumed from."""
    options = {**KINDS["nft"], **options}
    stopped = train(tmp_path, **options)
    assert stopped.steps in steps
    assert stopped.reason.startswith(f"stopped at step {stopped.steps}")
    assert (tmp_path / "checkpoints" / f"checkpoint-{stopped.steps}").is_dir()
    events = Events()
    again = train(tmp_path, resume=True, record=events, **options)
    assert not events.told
    assert (again.steps, again.best_step, again.reason) == (stopped.steps, stopped.best_step, stopped.reason)
