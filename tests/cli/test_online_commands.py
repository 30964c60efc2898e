"""The commands on recipes that learn online, and what is said and asked where gold answers are learned from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mistakes import Fails, write

from rlsf.cli.app import execute
from rlsf.demo import MODEL_DIR

SUPERVISED = "learns from gold answers: it is a supervised method, not self-feedback"
SMALL = ("--sampling.workers", "1", "--sampling.branches", "3", "--sampling.max_new_tokens", "32")
QUESTION = {"id": "a", "question": "What is 1 + 1?", "answer": "2"}


@pytest.fixture
def online(tmp_path: Path) -> Path:
    """A recipe file small enough for a test, its reward self-certainty."""
    path = tmp_path / "online.yaml"
    path.write_text(
        "recipe: rlsf\nonline: {rewards: {self_certainty: {temperature: raw}}, prompts_per_step: 2, num_generations: 3,"
        " max_completion_length: 32, max_steps: 2, learning_rate: 1.0e-4, guard: {every: 2, prompts: 3}}\n"
    )
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """The same, learning from right answers."""
    path = tmp_path / "labelled.yaml"
    path.write_text(
        "recipe: rlsf\nonline: {rewards: {correctness: {weight: 1.0}}, prompts_per_step: 2, num_generations: 3,"
        " max_completion_length: 32, max_steps: 2, learning_rate: 1.0e-4, guard: {every: 2, prompts: 3}}\n"
    )
    return path


def test_data_without_gold_answers_are_refused_before_any_work(fails: Fails, tmp_path: Path, labelled: Path) -> None:
    bare = {"id": "b", "question": "What is 2 + 2?"}
    for name, rows, message in (
        (
            "no-column",
            (bare,),
            "no-column.jsonl:1: no column answer, gold, target or answerKey: name theirs with prompts.",
        ),
        ("one-less", (QUESTION, bare), "one-less.jsonl:2: no column 'answer'"),
        ("empty", (QUESTION, {**bare, "answer": None}), "empty.jsonl:2: the gold answer in 'answer' is empty: fill it"),
    ):
        prompts = write(tmp_path / f"{name}.jsonl", *rows)
        command = ("--config", labelled, "--model", MODEL_DIR, "--prompts", prompts)
        for line in (fails("run", *command, "--output", tmp_path / "run"), fails("check", *command)):
            assert line.startswith("recipe rlsf learns from gold answers (online.rewards.correctness): ")
            assert message in line
            assert "`rlsf recipes` lists the recipes that need none" in line
        assert not (tmp_path / "run").exists()


def test_other_mistakes_in_the_data_are_not_blamed_on_labels(fails: Fails, tmp_path: Path, labelled: Path) -> None:
    broken = write(tmp_path / "broken.jsonl", QUESTION, "{")
    line = fails("run", "--config", labelled, "--model", MODEL_DIR, "--prompts", broken, "--output", tmp_path / "run")
    assert line.startswith(str(broken))
    assert "gold" not in line


def test_nothing_to_learn_from_is_met_before_any_work(
    fails: Fails, tmp_path: Path, online: Path, demo_data: tuple[Path, Path]
) -> None:
    command = ("run", "--config", online, "--model", MODEL_DIR, "--prompts", demo_data[0], "--output", tmp_path / "run")
    line = fails(*command, "--online.prompts_per_step", "22")
    assert (
        "24 prompts to learn from, 3 of them held out for the guard, are too few: a batch of rollouts takes 22" in line
    )
    assert "no reward to learn from" in fails(*command, "--online.rewards.self_certainty", "null")
    assert not (tmp_path / "run").exists()


def test_sampling_and_ranking_are_no_stages_of_their_own(
    fails: Fails, tmp_path: Path, online: Path, demo_data: tuple[Path, Path]
) -> None:
    command = ("--config", online, "--model", MODEL_DIR, "--prompts", demo_data[0])
    line = fails("sample", *command, "--output", tmp_path / "run")
    assert line.startswith("recipe rlsf learns online: it samples while it trains")
    assert "`rlsf run`" in line
    assert "`rlsf train FOLDER`" in line
    assert not (tmp_path / "run").exists()


def test_a_run_and_its_later_commands(
    fails: Fails, tmp_path: Path, online: Path, demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    data = ("--model", str(MODEL_DIR), "--prompts", str(demo_data[0]), "--eval-data", str(demo_data[1]))
    assert execute(["run", "--config", str(online), *data, "--output", str(folder), *SMALL]) == 0
    assert SUPERVISED not in capsys.readouterr().out
    assert "samples while it trains" in fails("rank", folder)
    assert "learns online, which keys of training cannot change" in fails("train", folder, "--training.beta", "1")
    assert "was made from other inputs" in fails("train", folder, "--online.learning_rate", "1e-3")
    assert "learning_rate: 0.0001" in (folder / "recipe.yaml").read_text()
    for command in (["train", str(folder)], ["eval", str(folder)], ["report", str(folder)]):
        assert execute(command) == 0
    shown = capsys.readouterr().out
    assert f"in {folder}/policy (" in shown
    assert shown.count(f"report  {folder}/report.html") == 2
    page, card = (folder / "report.html").read_text(), (folder / "policy" / "README.md").read_text()
    assert "<dt>completions</dt><dd>12</dd>" in page, "2 steps of 2 prompts with 3 completions"
    assert "It learned without labels" in page
    assert "| learned from | 12 completions of 4 questions in 2 optimiser steps |" in card
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "training"] == [1, 2], "nothing is trained twice"


def test_training_alone_goes_on_with_an_interrupted_run(
    tmp_path: Path, online: Path, demo_data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlsf.pipeline import run as loop

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    command = ["run", "--config", str(online), "--model", str(MODEL_DIR), "--prompts", str(demo_data[0])]
    with monkeypatch.context() as interrupted:
        interrupted.setattr(loop, "learn", interrupt)
        assert execute([*command, "--output", str(folder), *SMALL]) == 130
    assert execute(["train", str(folder), "--online.max_steps", "1"]) == 0
    assert (folder / "policy" / "model.safetensors").exists()
    assert "max_steps: 1" in (folder / "recipe.yaml").read_text()


def test_a_preference_run_does_not_become_an_online_one(
    fails: Fails, tmp_path: Path, demo_data: tuple[Path, Path]
) -> None:
    folder = tmp_path / "run"
    command = ("sample", "--model", MODEL_DIR, "--prompts", demo_data[0], "--prompts.limit", "2", *SMALL)
    assert execute([*map(str, command), "--output", str(folder)]) == 0
    line = fails("train", folder, "--online.rewards.self_certainty.weight", "1")
    assert "learns from preference pairs, which keys of online cannot change" in line
    assert "online: null" in (folder / "recipe.yaml").read_text()


def test_every_command_that_learns_says_that_labels_are_learned_from(
    tmp_path: Path, labelled: Path, demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    command = ["--config", str(labelled), "--model", str(MODEL_DIR), "--prompts", str(demo_data[1]), *SMALL]
    for arguments in (
        ["check", *command, "--examples", "1"],
        ["run", *command, "--output", str(folder)],
        ["train", str(folder)],
    ):
        assert execute(arguments) == 0
        assert capsys.readouterr().out.startswith(f"recipe rlsf {SUPERVISED}\n")


def test_misspelt_signals_of_an_online_recipe_are_met_before_any_work(
    fails: Fails, tmp_path: Path, online: Path
) -> None:
    prompts = write(tmp_path / "q.jsonl", *({**QUESTION, "id": f"q{n}"} for n in range(12)))
    command = ("run", "--config", online, "--model", MODEL_DIR, "--prompts", prompts, "--output", tmp_path / "run")
    for key in ("online.guard.signal", "online.rewards.answer_confidence.signal"):
        assert "unknown confidence signal 'answer_disparty' (did you mean" in fails(*command, f"{key}=answer_disparty")
    assert not (tmp_path / "run").exists()
