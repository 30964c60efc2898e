"""The cost curve of a run: what its points cost, what is measured at them, and how measuring goes on after a stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlsf.errors import ResourceError
from rlsf.files import read_json, write_json
from rlsf.models import load_model
from rlsf.pipeline import curve
from rlsf.pipeline.context import Run
from rlsf.pipeline.curve import measure_curve, policy_of, read_curve, seconds_by, spent_by
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import Manifest
from rlsf.pipeline.run import run_all
from rlsf.pipeline.spent import Spent, read_spent
from rlsf.recipes import Recipe

ALL = "training.keep_checkpoints=all"


def accuracy(run: RunFolder, phase: str) -> float:
    return read_json(run.summary_file)[phase]["greedy"]["accuracy"]


def checkpoint(folder: Path, step: int, **spent: int) -> None:
    folder = folder / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    write_json(folder / "spent.json", {"completions": 0, "ended_by": None, **spent})


def sampled(folder: Path, tokens: int) -> None:
    folder.mkdir(parents=True)
    Manifest("sample", {}, {"tokens": tokens, "traces": 2, "asking_tokens": 1}).write(folder)


def test_traces_and_earlier_rounds_are_paid_in_full(small_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    run = Run(small_recipe("training.rounds=2"), RunFolder(tmp_path))
    sampled(run.folder.traces(1), 99)
    sampled(run.folder.traces(2), 49)
    for step in (2, 6):
        checkpoint(run.folder.checkpoints(1), step, generated_tokens=step, training_tokens=100 * step)
    first = spent_by(run, 1, 2)
    assert (first.generated_tokens, first.training_tokens, first.optimiser_steps) == (99 + 1 + 2, 200, 2)
    # The first round went on to a seventh step, and a probe, after its last checkpoint.
    done = {"steps": 7, "training_tokens": 700, "generated_tokens": 8, "completions": 0}
    Manifest("train", {}, done).write(run.folder.checkpoints(1))
    checkpoint(run.folder.checkpoints(2), 4, generated_tokens=3, training_tokens=1000)
    second = spent_by(run, 2, 4)
    assert (second.generated_tokens, second.training_tokens) == (100 + 8 + 50 + 3, 1700)
    assert second.optimiser_steps == 7 + 4
    assert spent_by(run, 1, 2) == first


def test_a_reward_model_and_traces_for_the_guard_are_paid_before_online_steps(
    small_online: Callable[..., Recipe], tmp_path: Path
) -> None:
    run = Run(small_online(), RunFolder(tmp_path / "own"))
    sampled(run.folder.traces(1), 29)
    checkpoint(run.folder.checkpoints(1), 2, generated_tokens=400, training_tokens=500)
    assert spent_by(run, 1, 2) == Spent(430, 500, optimiser_steps=2, completions=2)
    run = Run(small_online(name="rlsf-rm"), RunFolder(tmp_path / "rewarded"))
    sampled(run.folder.traces(1), 29)
    rewards = {"steps": 5, "training_tokens": 70, "generated_tokens": 0, "completions": 0}
    Manifest("train reward model", {}, rewards).write(run.folder.reward_checkpoints)
    checkpoint(run.folder.checkpoints(1), 2, generated_tokens=400, training_tokens=500)
    assert spent_by(run, 1, 2) == Spent(430, 570, optimiser_steps=7, completions=2)


def test_seconds_are_those_of_learning_up_to_the_step() -> None:
    def line(step: int, seconds: float, round_: int = 1) -> dict[str, Any]:
        return {"event": "training", "round": round_, "step": step, "learning_seconds": seconds}

    before: list[dict[str, Any]] = [
        {"event": "sampling", "phase": "evaluate before", "measuring_seconds": 1000.0},
        {"event": "sampling", "phase": "sample", "learning_seconds": 30.0},
        {"event": "probe", "round": 1, "step": 0, "learning_seconds": 5.0},
    ]
    # Killed after its third step, resumed from the second: the third is done twice, and takes both times.
    events = [*before, line(1, 1.0), line(2, 2.0), line(3, 4.0), line(3, 8.0), line(4, 16.0)]
    later = [*events, {"event": "time", "learning_seconds": 0.5}, line(1, 32.0, round_=2)]
    assert [seconds_by(later, 1, step) for step in (1, 2, 3, 4)] == [36, 38, 50, 66]
    assert seconds_by(later, 2, 1) == 98.5
    assert seconds_by([], 1, 1) == 0


@pytest.mark.parametrize("lora", ["null", "{rank: 2}"])
def test_checkpoints_are_asked_as_the_policy_that_is_kept(
    small_recipe: Callable[..., Recipe], open_run: Callable[..., Run], tmp_path: Path, lora: str
) -> None:
    settings = (ALL, "training.selection.enabled=false", f"training.lora={lora}", "training.learning_rate=3e-4")
    with open_run(small_recipe(*settings, "training.rounds=2", "training.max_steps=4"), tmp_path / "run") as run:
        run_all(run)
        spent = read_spent(run.folder)
        measure_curve(run)
    content = read_json(run.folder.curve_file)
    places = [(one["round"], one["step"]) for one in content["checkpoints"]]
    assert places == [(1, 2), (1, 4), (2, 2), (2, 4)]
    start, *_, last = (content["start"], *content["checkpoints"])
    end = content["end"]
    assert (start["generated_tokens"], start["training_tokens"], start["seconds"]) == (0, 0, 0)
    assert start["accuracy"] == accuracy(run.folder, "before")
    # The last step is kept without a selection.
    assert last["accuracy"] == end["accuracy"] == accuracy(run.folder, "after")
    assert last["ece"] == pytest.approx(end["ece"])
    assert last["generated_tokens"] == end["generated_tokens"] == spent.generated_tokens
    assert last["training_tokens"] == end["training_tokens"] == spent.training_tokens
    assert last["seconds"] <= end["seconds"] == pytest.approx(spent.seconds_learning)
    again = read_spent(run.folder)
    assert replace(again, seconds_measuring=0) == replace(spent, seconds_measuring=0), "measuring is no learning"
    assert again.seconds_measuring > spent.seconds_measuring
    points = read_curve(run.folder)
    assert [point.step for point in points] == [0, 2, 4, 6, 8]
    for costs in ([getattr(point, name) for point in points] for name in ("training_tokens", "seconds")):
        assert costs == sorted(set(costs))
    assert not run.folder.evaluation("curve").exists()


def test_a_policy_of_a_checkpoint_has_its_weights_and_the_kept_ones_settings(
    small_recipe: Callable[..., Recipe], open_run: Callable[..., Run], tmp_path: Path
) -> None:
    with open_run(small_recipe(ALL, "training.learning_rate=1e-3"), tmp_path / "run") as run:
        run_all(run)
    folder = run.folder.checkpoints(1)
    model = policy_of(run, 1, folder / "checkpoint-2", tmp_path / "early")
    assert model is not None
    early, other = load_model(model), load_model(model.model_copy(update={"path": str(folder / "checkpoint-2")}))
    kept = load_model(run.trained_config(1))
    assert early.generation_config.to_dict() == kept.generation_config.to_dict()
    weights = [next(iter(one.parameters())) for one in (early, other)]
    assert weights[0].equal(weights[1])
    (folder / "checkpoint-2" / "model.safetensors").unlink()
    assert policy_of(run, 1, folder / "checkpoint-2", tmp_path / "early") is None
    measure_curve(run)
    assert [one["step"] for one in read_json(run.folder.curve_file)["checkpoints"]] == [3, 4, 6]


def test_measuring_goes_on_where_it_stopped(
    small_recipe: Callable[..., Recipe],
    open_run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = small_recipe(ALL, "training.selection.enabled=false")
    asked: list[str] = []
    sample = curve.sample_stage

    def counted(run: Run, title: str, *args: Any, **kwargs: Any) -> Manifest:
        asked.append(title)
        if len(asked) == 2:
            raise ResourceError("no room")
        return sample(run, title, *args, **kwargs)

    monkeypatch.setattr(curve, "sample_stage", counted)
    with open_run(recipe, tmp_path / "run") as run:
        run_all(run)
        with pytest.raises(ResourceError):
            measure_curve(run)
    half = read_json(run.folder.curve_file)
    assert half["end"] is None
    with open_run(recipe, tmp_path / "run", resume=True) as run:
        measure_curve(run)
        measure_curve(run)
    assert asked == [f"measure round 1, step {step}" for step in (2, 4, 4, 6)]
    whole = read_json(run.folder.curve_file)
    assert whole["checkpoints"][:1] == half["checkpoints"]
    assert [one["step"] for one in whole["checkpoints"]] == [2, 4, 6]


def test_all_checkpoints_stay_and_the_policy_is_the_same(
    small_recipe: Callable[..., Recipe], open_run: Callable[..., Run], tmp_path: Path
) -> None:
    policies = []
    for name, kept, steps in (("few", "2", {4, 6}), ("one", "1", {6}), ("all", "all", {2, 4, 6})):
        recipe = small_recipe(f"training.keep_checkpoints={kept}", "training.selection.enabled=false")
        with open_run(recipe, tmp_path / name) as run:
            run_all(run)
        found = {int(path.name.removeprefix("checkpoint-")) for path in run.folder.checkpoints(1).glob("checkpoint-*")}
        assert found == steps
        policies.append((run.folder.policy / "model.safetensors").read_bytes())
    assert len(set(policies)) == 1


def test_without_a_policy_there_is_no_curve(small_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    measure_curve(Run(small_recipe(), RunFolder(tmp_path)))
    assert read_curve(RunFolder(tmp_path)) == []


def test_where_a_form_is_taught_the_start_is_the_policy_that_was_taught_it(
    small_online: Callable[..., Recipe], tmp_path: Path
) -> None:
    run = Run(small_online("online.warm_up.steps=3", name="rlcr"), RunFolder(tmp_path))
    assert curve._spent_at_start(run) == Spent()
    sampled(run.folder.warm_up / "traces", 19)
    Manifest("warm up", {}, {"steps": 3, "training_tokens": 60}).write(run.folder.warm_up)
    lines: list[dict[str, Any]] = [
        {"event": "sampling", "phase": "sample for the form", "learning_seconds": 2.0},
        {"event": "time", "phase": "learning", "learning_seconds": 4.0},
        {"event": "sampling", "phase": "evaluate before", "measuring_seconds": 8.0},
        {"event": "training", "round": 1, "step": 1, "learning_seconds": 16.0},
    ]
    for line in lines:
        run.metrics.record(line)
    taught = Spent(20, 60, optimiser_steps=3, completions=2, seconds_learning=6)
    assert curve._spent_at_start(run) == taught
    checkpoint(run.folder.checkpoints(1), 1, generated_tokens=400, training_tokens=500)
    assert spent_by(run, 1, 1) == Spent(420, 560, optimiser_steps=4, completions=2, seconds_learning=22)


def test_adapters_learned_online_are_asked_too(
    small_online: Callable[..., Recipe], open_run: Callable[..., Run], tmp_path: Path
) -> None:
    kept = ("online.keep_checkpoints=all", "online.guard.enabled=false", "online.lora={rank: 2}")
    with open_run(small_online(*kept, "online.learning_rate=1e-3"), tmp_path / "run") as run:
        run_all(run)
        measure_curve(run)
    content = read_json(run.folder.curve_file)
    assert [one["step"] for one in content["checkpoints"]] == [2, 4]
    last = content["checkpoints"][-1]
    assert {**last, "seconds": 0} == pytest.approx({**content["end"], "seconds": 0})
    assert last["accuracy"] == accuracy(run.folder, "after")
