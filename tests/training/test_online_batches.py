"""What is learned online does not depend on how a step's completions are divided into passes, and does on the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from online_runs import EXACT, Events, checkpoint, train

from rlsf.training.rollout_order import dealing
from rlsf.training.rollouts import SeededRollouts

REUSED = {"steps_per_rollout": 2, "num_iterations": 2}


@pytest.fixture
def rollouts(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, list[int]]]]:
    """The prompts and tokens of every batch of rollouts."""
    batches: list[list[tuple[str, list[int]]]] = []
    sample = SeededRollouts._roll_out

    def kept(trainer: Any, prompt_ids: list[list[int]]) -> Any:
        traces = sample(trainer, prompt_ids)
        batches.append([(trace.prompt_id, trace.token_ids.tolist()) for trace in traces])
        return traces

    monkeypatch.setattr(SeededRollouts, "_roll_out", kept)
    return batches


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss_type": "dr_grpo", "beta": 0.1, "lora": {"rank": 4}},
        {"loss_type": "dapo", **REUSED},
        {"algorithm": "rloo", **REUSED},
        {"algorithm": "nft", "rewards": {"majority_agreement": {}}, **REUSED},
    ],
    ids=["grpo", "dr_grpo and lora", "dapo reused", "rloo reused", "nft"],
)
def test_passes_of_a_half_and_a_quarter(options: dict[str, Any], rollouts: list[Any], tmp_path: Path) -> None:
    """The same completions; weights within 2e-6 after steps that moved them by 0.01 and more."""
    weights, sampled, losses = [], [], []
    for size in (16, 8, 4):
        events, folder = Events(), tmp_path / str(size)
        rollouts.clear()
        result = train(folder, device_batch_size=size, record=events, **{**EXACT, "epochs": 1.0, **options})
        weights.append(checkpoint(folder, result.steps))
        sampled.append(list(rollouts))
        losses.append([event["loss"] for event in events.told.values() if event["event"] == "training"])
    assert sampled[0] == sampled[1] == sampled[2]
    start = checkpoint(tmp_path / "16", 0)
    assert max((weights[0][name] - before).abs().max() for name, before in start.items()) > 0.01
    for other, loss in zip(weights[1:], losses[1:], strict=True):
        assert max((other[name] - expected).abs().max() for name, expected in weights[0].items()) < 2e-6
        assert loss == pytest.approx(losses[0], abs=1e-5)


def test_the_seed_the_step_and_the_prompt_decide_what_is_sampled(rollouts: list[Any], tmp_path: Path) -> None:
    options: dict[str, Any] = {"probe": None, "learning_rate": 1e-12, "max_steps": 6, "epochs": 1.0}
    train(tmp_path / "one", **options)
    first = list(rollouts)
    rollouts.clear()
    train(tmp_path / "again", **options)
    assert rollouts == first
    rollouts.clear()
    train(tmp_path / "other", seed=8, **options)
    assert rollouts != first
    completions = {(step, prompt, tuple(ids)) for step, batch in enumerate(first) for prompt, ids in batch}
    assert len(completions) > 0.9 * 6 * 16, "members of a group, and passes over a prompt, differ"
    prompts = [[prompt for prompt, _ in batch[::4]] for batch in first]
    assert sorted(prompts[0] + prompts[1] + prompts[2]) == sorted(prompts[3] + prompts[4] + prompts[5])
    assert prompts[:3] != prompts[3:], "each pass has an order of its own"


# Which step learns from which completions


@given(st.integers(1, 6), st.integers(1, 6), st.integers(2, 6), st.integers(1, 4), st.integers(0, 3))
def test_completions_are_dealt_evenly_and_alike_in_several_processes(
    groups: int, more: int, generations: int, steps: int, seed: int
) -> None:
    """Steps divide the rows of each process, as the trainer has it."""
    groups, more = groups * steps, more * steps
    prompts = [f"q{number}" for number in range(groups + more)]
    whole = dealing(prompts, generations, steps, 0, seed)
    assert sorted(whole) == list(range(len(prompts) * generations))
    size, first_row = len(whole) // steps, groups * generations
    parts = [
        dealing(prompts[:groups], generations, steps, 0, seed),
        [first_row + row for row in dealing(prompts[groups:], generations, steps, first_row, seed)],
    ]
    for step in range(steps):
        together = [row for part in parts for row in part[step * len(part) // steps : (step + 1) * len(part) // steps]]
        of_step = whole[step * size : (step + 1) * size]
        assert sorted(together) == sorted(of_step)
        counts = [sum(row // generations == group for row in of_step) for group in range(len(prompts))]
        assert max(counts) - min(counts) <= 1


def test_members_are_dealt_by_chance() -> None:
    prompts = [f"q{number}" for number in range(200)]
    dealt = dealing(prompts, 4, 2, 0, seed=1)
    firsts = [sum(row % 4 == member for row in dealt[:400]) for member in range(4)]
    assert all(70 < count < 130 for count in firsts), firsts
    assert dealt != dealing(prompts, 4, 2, 0, seed=2)


def test_a_step_has_completions_of_every_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlsf.training.online_trainers import OnlineGRPOTrainer

    seen: list[torch.Tensor] = []
    loss = OnlineGRPOTrainer._compute_loss

    def kept(trainer: Any, model: Any, inputs: dict[str, Any]) -> Any:
        seen.append(inputs["prompt_ids"].sum(dim=1))
        return loss(trainer, model, inputs)

    monkeypatch.setattr(OnlineGRPOTrainer, "_compute_loss", kept)
    train(tmp_path, probe=None, max_steps=2, prompts_per_step=2, steps_per_rollout=2, device_batch_size=4)
    steps = [torch.cat(seen[:2]).tolist(), torch.cat(seen[2:]).tolist()]
    assert sorted(steps[0]) == sorted(steps[1])
    assert all(steps[0].count(prompt) == 2 for prompt in steps[0])
