"""The demo of every method, on a few questions: a table, a report, and what is said on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mistakes import Fails

from rlsf.cli.app import INTERRUPTED, execute
from rlsf.recipes import resolve
from rlsf.recipes.registry import RECIPES

FEW = (
    *("--prompts.limit", "12", "--evaluation_data.limit", "6", "--sampling.branches", "3", "--sampling.workers", "1"),
    *("--sampling.max_new_tokens", "48", "--evaluation.bootstrap", "100"),
)
FEW_ONLINE = (
    *(*FEW, "--online.max_steps", "2", "--online.prompts_per_step", "2", "--online.num_generations", "4"),
    *("--online.max_completion_length", "48", "--online.guard.prompts", "2"),
    *("--online.guard.every", "2", "--online.save_every", "2"),
)
FEW_PAIRS = (
    *("--training.max_steps", "2", "--training.batch_size", "4", "--training.save_every", "2"),
    *("--training.selection.prompts", "2", "--training.selection.every", "2", "--ranking.threshold", "0"),
)
FEW_EXAMPLES = (
    *("--introspection.training.max_steps", "2", "--introspection.training.batch_size", "4"),
    *("--introspection.training.save_every", "2", "--introspection.training.selection.prompts", "2"),
    *("--introspection.training.selection.every", "2"),
)
FEW_REWARDED = ("--reward_model.max_steps", "2", "--reward_model.batch_size", "4", "--reward_model.save_every", "2")
#: The methods that learn in another way than online, with their sizes.
OFFLINE = {
    "rlsf": FEW_PAIRS,
    "rlsf-trace": FEW_PAIRS,
    "core-po": (*FEW_PAIRS, "--training.rounds", "1"),
    "rc-dpo": FEW_PAIRS,
    "random-pairs": FEW_PAIRS,
    "rc-rm": FEW_REWARDED,
    "drr": ("--acceptance.rounds", "2", "--acceptance.training.max_steps", "2"),
    "rise-introspection": ("--introspection.samples", "[1,2]", "--introspection.turns", "2", *FEW_EXAMPLES),
    "sft-majority": ("--introspection.samples", "[5]", *FEW_EXAMPLES),
}
#: What is trained in the place of a policy, as events name it.
TRAINS_NO_POLICY = {"rc-rm": "reward_model", "drr": "acceptance"}
#: Sizes of single methods. Two steps of warm-up teach nothing: hardly a completion keeps to the form, and answers are
#: read without it.
SIZES = {
    "rlcr": ("--online.warm_up.steps", "2", "--answer.format", "auto", "--answer.pattern", "null"),
    "rise-verify": ("--online.warm_up.steps", "2"),
    "rlsf-rm": (*FEW_REWARDED, "--ranking.threshold", "0"),
}
ONLINE = [name for name in RECIPES if resolve(name).online is not None]


def test_there_are_methods_that_learn_online() -> None:
    assert len(ONLINE) >= 8
    assert {*SIZES} < {*ONLINE}


def test_every_method_is_run() -> None:
    assert {*ONLINE, *OFFLINE} == {*RECIPES}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("rlsf-online", "rlcr") else pytest.mark.slow) for name in ONLINE]
)
def test_every_method_that_learns_online_ends_with_a_table_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = tmp_path / "demo"
    assert execute(["demo", "--recipe", name, "--output", str(folder), *FEW_ONLINE, *SIZES.get(name, ())]) == 0
    shown, told = capsys.readouterr()
    assert shown.startswith(f"\nrecipe {name}: ")
    assert "Loading weights" not in told
    assert ("learns from gold answers: it is a supervised method" in shown) == RECIPES[name].needs_labels
    assert shown.count("CoT-decoding  before") == 1, "no other method is run beside it"
    assert f"report  {folder / 'report.html'}" in shown
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    assert summary["before"]["greedy"]["n"] == summary["after"]["greedy"]["n"] == 6
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert (
        tmp_path / "demo-data" / ("labelled.jsonl" if RECIPES[name].needs_labels else "self_training.jsonl")
    ).exists()
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "training"] == [1, 2]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "rc-rm" else pytest.mark.slow) for name in OFFLINE]
)
def test_every_other_method_ends_with_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder = tmp_path / "demo"
    assert execute(["demo", "--recipe", name, "--output", str(folder), *FEW, *OFFLINE[name]]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"\nrecipe {name}: ")
    assert f"report  {folder / 'report.html'}" in shown
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    assert summary["before"]["greedy"]["n"] == 6
    kind = TRAINS_NO_POLICY.get(name, "training")
    assert (summary["after"] is None) == (name in TRAINS_NO_POLICY)
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == kind] == [1, 2]


def test_a_form_that_nobody_keeps_to_is_one_line(fails: Fails, tmp_path: Path) -> None:
    line = fails("demo", "--recipe", "rlcr", "--output", tmp_path / "demo", *FEW_ONLINE, "--online.warm_up.steps", "2")
    assert line.startswith("evaluate before: no trace has an answer in the format answer.format=regex")
    assert "online.warm_up.steps=2 did not teach it" in line


@pytest.mark.parametrize("name", ONLINE)
def test_a_dry_run_prints_a_recipe_that_a_run_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = tmp_path / "demo"
    assert execute(["demo", "--recipe", name, "--output", str(folder), "--dry-run", "--online.beta", "0.25"]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    recipe = resolve(None, printed)
    assert recipe.recipe == name
    assert recipe.online is not None
    assert recipe.online.beta == 0.25
    assert recipe.online.max_completion_length == 96, "the demo's size"
    assert not folder.exists()


def test_an_interrupt_names_the_method_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlsf.pipeline import run as loop

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "demo"
    command = ["demo", "--recipe", "intuitor", "--output", str(folder), *FEW_ONLINE]
    with monkeypatch.context() as cut:
        cut.setattr(loop, "learn", interrupted)
        assert execute(command) == INTERRUPTED
    go_on = capsys.readouterr().err.split("go on with `rlsf ")[1].split("`")[0].split()
    assert go_on == ["demo", "--resume", "--output", str(folder), "--recipe", "intuitor", *FEW_ONLINE]
    assert execute(go_on) == 0
    shown = capsys.readouterr()
    assert f"report  {folder / 'report.html'}" in shown.out
    assert "evaluate before: done" not in shown.err, "what is finished is kept"


def test_an_unknown_method_names_the_nearest(fails: Fails, tmp_path: Path) -> None:
    line = fails("demo", "--recipe", "intuitr", "--output", tmp_path / "demo")
    assert "'intuitr'" in line
    assert "did you mean 'intuitor'" in line
    assert list(tmp_path.iterdir()) == []
