"""Every mistake of a user ends in one clear line and exit code 2, and loses nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rlsf.cli.app import USER_ERROR, execute

Fails = Callable[..., str]


@pytest.fixture
def model() -> str:
    from rlsf.demo import MODEL_DIR

    return str(MODEL_DIR)


@pytest.fixture
def questions(demo_data: tuple[Path, Path]) -> str:
    return str(demo_data[0])


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """A function that runs a command line, expects it to fail in one line, and returns the line."""

    def run(*arguments: str | Path) -> str:
        assert execute([str(argument) for argument in arguments]) == USER_ERROR
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlsf: ")]
        assert len(lines) == 1
        return lines[0].removeprefix("rlsf: ")

    return run


def write(path: Path, *rows: dict | str) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_unknown_command_option_recipe_and_key(fails: Fails, model: str, questions: str) -> None:
    assert 'Did you mean "run"' in fails("rnu")
    assert "unknown recipe 'rlfs' (did you mean 'rlsf'" in fails("run", "--recipe", "rlfs")
    assert "unknown key 'sampling.brances' (did you mean 'branches'" in fails("run", "--sampling.brances", "3")
    assert "needs a value" in fails("run", "--sampling.branches")
    assert "no such recipe file: nowhere.yaml" in fails("run", "--config", "nowhere.yaml")
    assert "unknown confidence signal 'answer_disparty' (did you mean 'answer_disparity'" in fails(
        "check", "--model", model, "--prompts", questions, "--signal", "answer_disparty"
    )


def test_nothing_to_run(fails: Fails, tmp_path: Path, model: str, questions: str) -> None:
    assert "no model: say --model" in fails("run", "--prompts", questions, "--output", tmp_path / "a")
    assert "no prompts: say --prompts" in fails("run", "--model", model, "--output", tmp_path / "b")
    assert "say what to measure" in fails("eval")


def test_unusable_prompt_files(fails: Fails, tmp_path: Path, model: str) -> None:
    good = {"id": "a", "question": "What is 1 + 1?"}
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "caf\xe9"}\n')
    cases = {
        tmp_path / "missing.jsonl": r"no such file: .*missing\.jsonl",
        write(tmp_path / "broken.jsonl", good, '{"question": '): r"broken\.jsonl:2: ",
        write(
            tmp_path / "column.jsonl", {"id": "a", "questoin": "1 + 1?"}
        ): r"column\.jsonl:1: .*did you mean 'questoin'",
        write(tmp_path / "empty.jsonl", good, {"id": "b", "question": "  "}): r"empty\.jsonl:2: .*empty",
        write(tmp_path / "twice.jsonl", good, good): r"twice\.jsonl:2: id 'a' is taken by .*twice\.jsonl:1",
        tmp_path / "latin.jsonl": r"latin\.jsonl:1: .*UTF-8",
    }
    for number, (path, pattern) in enumerate(cases.items()):
        line = fails("run", "--model", model, "--prompts", path, "--output", tmp_path / str(number))
        assert re.search(pattern, line), line


def test_evaluation_needs_gold_answers(fails: Fails, tmp_path: Path, model: str, questions: str) -> None:
    line = fails("eval", "--model", model, "--data", questions, "--output", tmp_path / "run")
    assert re.search(r"self_training\.jsonl:1: .*gold", line), line


def test_a_run_folder_is_not_overwritten(fails: Fails, tmp_path: Path, model: str, questions: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("mine")
    line = fails("run", "--model", model, "--prompts", questions, "--output", tmp_path / "run")
    assert "exists: choose another --output, or continue that run with --resume" in line
    assert (tmp_path / "run" / "precious.txt").read_text() == "mine"
    assert "is not a run folder" in fails("rank", tmp_path / "run")


def test_unusable_models(fails: Fails, tmp_path: Path, model: str, questions: str) -> None:
    import shutil

    bare, poisoned = tmp_path / "bare", tmp_path / "poisoned"
    shutil.copytree(model, bare)
    (bare / "model.safetensors").unlink()
    assert "no weights" in fails("run", "--model", bare, "--prompts", questions, "--output", tmp_path / "a")
    shutil.copytree(model, poisoned)
    weights = load_file(poisoned / "model.safetensors")
    poisoned_weights = {name: np.full_like(tensor, np.nan) for name, tensor in weights.items()}
    save_file(poisoned_weights, poisoned / "model.safetensors", metadata={"format": "pt"})
    arguments = ("--model", poisoned, "--prompts", questions, "--sampling.workers", "1", "--output", tmp_path / "b")
    line = fails("run", *arguments)
    assert re.search(r"not finite|NaN", line), line
    assert "no such" in fails(
        "run", "--model", tmp_path / "nowhere", "--prompts", questions, "--output", tmp_path / "c"
    )


def test_more_branches_than_tokens_and_too_long_a_prompt(
    fails: Fails, tmp_path: Path, model: str, questions: str
) -> None:
    one = ("--sampling.workers", "1")
    line = fails("sample", "--model", model, "--prompts", questions, "--sampling.branches", "99999", *one)
    assert "sampling.branches=99999, but the vocabulary has only" in line
    long = write(tmp_path / "long.jsonl", {"id": "long", "question": "How many apples? " * 500})
    line = fails("sample", "--model", model, "--prompts", long, "--output", tmp_path / "b", *one)
    assert "prompt 'long' has" in line
    assert "context" in line


def test_no_trace_with_an_answer(fails: Fails, tmp_path: Path, model: str, questions: str) -> None:
    arguments = ("--answer.format", "boxed", "--sampling.workers", "1", "--prompts.limit", "3")
    line = fails("sample", "--model", model, "--prompts", questions, "--output", tmp_path / "run", *arguments)
    assert "no trace has an answer in the format answer.format=boxed" in line


def test_an_earlier_stage_cannot_be_changed_afterwards(
    fails: Fails, tmp_path: Path, model: str, questions: str
) -> None:
    folder = tmp_path / "run"
    arguments = ("--sampling.workers", "1", "--prompts.limit", "3", "--sampling.branches", "4")
    assert execute(["sample", "--model", model, "--prompts", questions, "--output", str(folder), *arguments]) == 0
    assert "sampling.branches cannot change any more" in fails("rank", folder, "--sampling.branches", "5")
    assert "stage 'rank' is not finished" in fails("train", folder)
