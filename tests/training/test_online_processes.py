"""Online training in two processes is that of one, but for rounding; it is written once, resumed and stopped whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from divided_training import divided, reports
from online_runs import EXACT, KINDS, checkpoint, online_config
from tiny_policy import tiny_model

from rlsf.errors import InputError
from rlsf.training.checkpoints import staging_folder
from rlsf.training.online_options import online_arguments

SHORT = {**EXACT, "epochs": 1.0}
REUSED = {"steps_per_rollout": 2, "num_iterations": 2, "prompts_per_step": 2}
CASES: dict[str, dict[str, Any]] = {
    "grpo": {**EXACT, "guard": {"every": 4, "patience": None, "agreement_drop": None}},
    "dr_grpo": {**SHORT, "loss_type": "dr_grpo", "lora": {"rank": 4}},
    "dapo": {**SHORT, "loss_type": "dapo", "scale_rewards": "batch", **REUSED},
    "rloo": {**SHORT, "algorithm": "rloo", **REUSED},
    "nft": {**SHORT, "algorithm": "nft", "rewards": {"majority_agreement": {}}, **REUSED},
    "stopped": {**SHORT, "guard": {"every": 4, "entropy_floor": 0.99, "persistence": 1, "patience": None}},
}


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """Weights within 2e-6 and losses within 1e-5, after as many steps, told and decided by the first process."""
    process = divided(tmp_path / "two", CASES)
    assert process.returncode == 0, process.stderr[-3000:]
    train_here(tmp_path / "one")
    for name in CASES:
        (one,), (first, second) = reports(tmp_path / "one" / name), reports(tmp_path / "two" / name, 2)
        assert (first["events"], second["events"]) == (first["events"], [])
        assert (first["probed"], second["probed"]) == (one["probed"], [])
        for decided in ("steps", "best_step", "reason", "probes"):
            assert first[decided] == second[decided]
        assert (first["steps"], first["best_step"], first["reason"]) == (one["steps"], one["best_step"], one["reason"])
        assert_told_alike(one["events"], first["events"])
        for step in (one["steps"], one["best_step"]):
            weights, expected = (checkpoint(tmp_path / side / name, step) for side in ("two", "one"))
            for tensor, value in expected.items():
                assert torch.allclose(weights[tensor], value, rtol=0, atol=2e-6), (name, tensor)
        assert_whole(tmp_path / "two" / name)
    assert reports(tmp_path / "two" / "stopped")[0]["reason"].startswith("stopped at step")


def train_here(folder: Path) -> None:
    """In this process, by passes over a half of a step's completions: what a process has of them."""
    from divided_training import train_cases

    halves = {name: online_config(**options).completions_per_step // 2 for name, options in CASES.items()}
    train_cases(folder, {name: {**options, "device_batch_size": halves[name]} for name, options in CASES.items()})


def assert_told_alike(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> None:
    """Losses, rewards and vital signs; TRL's own entropy is a mean over passes."""
    assert [(event["event"], event["step"]) for event in one] == [(event["event"], event["step"]) for event in two]
    for expected, event in zip(one, two, strict=True):
        assert expected.keys() == event.keys()
        for name in expected:
            if name in ("loss", "reward", "reward_std", "num_tokens", "frac_reward_zero_std") or "rollouts/" in name:
                assert event[name] == pytest.approx(expected[name], abs=1e-5), (event["step"], name)


def assert_whole(folder: Path) -> None:
    """Every checkpoint has the random states of both processes, and nothing half-written is left."""
    checkpoints = sorted((folder / "checkpoints").glob("checkpoint-*"))
    assert checkpoints
    for path in checkpoints:
        assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt", "trainer_state.json", "guard.json"} <= {
            file.name for file in path.iterdir()
        }
    assert not staging_folder(folder / "checkpoints").exists()
    assert not [path for path in folder.rglob("*") if "partial" in path.name]


@pytest.mark.slow
def test_two_processes_resume(tmp_path: Path) -> None:
    """Adapters with dropout draw random numbers in each process, which a checkpoint has to bring back."""
    case = {**KINDS["lora"], "save_every": 2, "trainer": {"save_total_limit": 9}}
    process = divided(tmp_path, {"whole": case, "cut": {**case, "resumed": {"case": "whole", "step": 2}}})
    assert process.returncode == 0, process.stderr[-3000:]
    (expected, _), (found, other) = reports(tmp_path / "whole", 2), reports(tmp_path / "cut", 2)
    told = {(event["event"], event["step"]): event for event in expected["events"]}
    assert min(event["step"] for event in found["events"]) == 3
    assert all(event == told[event["event"], event["step"]] for event in found["events"])
    assert (found["reason"], found["probes"]) == (other["reason"], other["probes"])
    assert (found["reason"], found["probes"]) == (expected["reason"], expected["probes"])
    weights, resumed = (checkpoint(tmp_path / name, 6) for name in ("whole", "cut"))
    assert all(torch.equal(resumed[name], value) for name, value in weights.items())


# Processes that do not divide a step


def arguments(processes: int, **options: Any) -> Any:
    return online_arguments(online_config(**options), tiny_model(), Path("unused"), 7, [1.0], {}, processes)


def test_passes_are_of_what_a_process_has() -> None:
    made = arguments(2, device_batch_size=4, steps_per_rollout=2)
    assert (made.per_device_train_batch_size, made.gradient_accumulation_steps, made.steps_per_generation) == (4, 2, 4)
    assert arguments(4).per_device_train_batch_size == 4
    assert arguments(2, device_batch_size=16).per_device_train_batch_size == 8


@pytest.mark.parametrize(
    ("processes", "options", "message"),
    [
        (3, {}, "16 completions a step .* cannot be divided among 3 processes in passes of 5"),
        (2, {"prompts_per_step": 6, "device_batch_size": 8}, "24 completions .* among 2 processes in passes of 8"),
        (32, {}, "16 completions a step .* among 32 processes"),
        (8, {}, "8 processes would hold parts of a prompt's completions: make online.prompts_per_step=4 a multiple"),
    ],
)
def test_processes_that_do_not_divide_a_step_are_refused(processes: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        arguments(processes, **options)
