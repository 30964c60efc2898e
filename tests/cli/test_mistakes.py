"""Every mistake of a user ends in one clear line and exit code 2, and loses nothing."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mistakes import Fails, write
from safetensors.numpy import load_file, save_file

from rlsf.cli.app import execute


@pytest.fixture
def model() -> str:
    from rlsf.demo import MODEL_DIR

    return str(MODEL_DIR)


@pytest.fixture
def questions(demo_data: tuple[Path, Path]) -> str:
    return str(demo_data[0])


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
    assert "no model: give --model" in fails("run", "--prompts", questions, "--output", tmp_path / "a")
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
        output = tmp_path / str(number)
        line = fails("run", "--model", model, "--prompts", path, "--output", output)
        assert re.search(pattern, line), line
        assert not output.exists(), "the same command must work once the file is mended"


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
    assert re.search(r"the weights in \S+ are not finite \(NaN or infinity\)", fails("run", *arguments))
    line = fails("run", *arguments[:-1], tmp_path / "logits", "--model.check-weights", "false")
    assert re.search(r"the model's logits for prompt 'self_training-\S+' are not finite at new token 0", line)
    assert "no such" in fails(
        "run", "--model", tmp_path / "nowhere", "--prompts", questions, "--output", tmp_path / "c"
    )


def test_more_branches_than_tokens_and_too_long_a_prompt(
    fails: Fails, tmp_path: Path, model: str, questions: str
) -> None:
    one = ("--sampling.workers", "1")
    line = fails("sample", "--model", model, "--prompts", questions, "--sampling.branches", "99999", *one)
    assert "sampling.branches=99999, but the vocabulary has only" in line
    rows = ({"id": "a", "question": "What is 1 + 1?"}, {"id": "long", "question": "How many apples? " * 500})
    long = write(tmp_path / "long.jsonl", *rows)
    line = fails("sample", "--model", model, "--prompts", long, "--output", tmp_path / "b", *one)
    assert re.search(r"prompt 'long' has \d+ tokens and the model's context 512.*\(1 of 2 prompts are too long\)", line)
    assert not (tmp_path / "b").exists()


def test_what_a_late_stage_needs_is_looked_at_first(fails: Fails, tmp_path: Path, model: str, questions: str) -> None:
    for mistake, message in (
        (("--signal", "answer_disparty"), "unknown confidence signal 'answer_disparty' (did you mean 'answer_disparit"),
        (("--model.device", "gpu"), "model.device='gpu': use auto, cpu, cuda or cuda:N"),
        (("--render.chat", "always"), "the tokenizer has no chat template"),
        (("--eval-data", questions), "evaluation needs the gold answers"),
    ):
        assert message in fails("run", "--model", model, "--prompts", questions, "--output", tmp_path / "run", *mistake)
        assert not (tmp_path / "run").exists()


def test_nothing_to_resume(fails: Fails, tmp_path: Path) -> None:
    assert "--resume needs the run to go on with: --output FOLDER" in fails("run", "--resume")
    assert "nothing to resume: " in fails("run", "--resume", "--output", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_negative_examples(fails: Fails, model: str, questions: str) -> None:
    assert "--examples" in fails("check", "--model", model, "--prompts", questions, "--examples", "-1")


def test_a_full_disk(fails: Fails, tmp_path: Path, model: str, questions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--sampling.workers", "1", "--sampling.branches", "2", "--sampling.shard-prompts", "12")
    run = ("sample", "--model", model, "--prompts", questions, "--output", str(tmp_path / "run"), *arguments)
    write_table, written = pq.write_table, []

    def second_write_fails(table: pa.Table, path: Path, **options: Any) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write_table(table, path, **options)

    with monkeypatch.context() as full:
        full.setattr(pq, "write_table", second_write_fails)
        line = fails(*run)
    assert re.search(
        r"no space left.* while writing .*part-00001\.parquet: free some space and continue with --resume", line
    )
    kept = tmp_path / "run" / "traces" / "round-1" / "part-00000.parquet"
    before = kept.stat().st_mtime_ns
    assert execute(["sample", "--resume", "--output", str(tmp_path / "run")]) == 0
    assert kept.stat().st_mtime_ns == before, "what was finished is kept"
    assert (kept.parent / "part-00001.parquet").exists()


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


def test_a_refused_change_leaves_the_recipe_alone(fails: Fails, tmp_path: Path, model: str, questions: str) -> None:
    folder = tmp_path / "run"
    arguments = ("--sampling.workers", "1", "--prompts.limit", "3", "--sampling.branches", "4")
    assert execute(["sample", "--model", model, "--prompts", questions, "--output", str(folder), *arguments]) == 0
    assert execute(["rank", str(folder), "--ranking.threshold", "0.5"]) == 0
    ranked = (folder / "recipe.yaml").read_text()
    assert "threshold: 0.5" in ranked
    assert "was made from other inputs (ranking.threshold: 0.5 -> 0.4)" in fails(
        "rank", folder, "--ranking.threshold", "0.4"
    )
    assert (folder / "recipe.yaml").read_text() == ranked


@pytest.mark.parametrize("command", ["eval", "calibrate", "signals", "best-of-n"])
def test_prompts_are_refused_where_nothing_is_learned(command: str, fails: Fails, tmp_path: Path) -> None:
    """They would be passed over in silence, and with them a limit."""
    questions = write(tmp_path / "questions.jsonl", {"question": "1 + 1?", "answer": "2"})
    said = (command, "--model", "model", "--data", questions)
    line = "nothing is learned here, and no prompts are read: say"
    assert fails(*said, "--prompts.limit", "4") == f"--prompts.limit: {line} --evaluation_data.limit"
    assert fails(*said, "--prompts", questions) == f"--prompts: {line} --data"
    assert not (tmp_path / "runs").exists()
