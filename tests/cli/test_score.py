"""`rlsf score` as a user meets it: what it prints, how it goes on, and one line for every mistake."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mistakes import Fails, Succeeds, write

from rlsf.cli.app import INTERRUPTED
from rlsf.demo import MODEL_DIR
from rlsf.files import read_json

Scores = Callable[..., str]


@pytest.fixture
def scores(succeeds: Succeeds) -> Scores:
    """A function that runs `rlsf score`, expects it to succeed, and returns what it printed."""
    return partial(succeeds, "score")


GOOD = {"prompt": "Q: 1 + 1?", "completion": "The answer is 2."}


def test_what_it_prints(tmp_path: Path, scores: Scores) -> None:
    traces = write(tmp_path / "mine.jsonl", GOOD, {**GOOD, "completion": ["I do not know", ""]})
    shown = scores("--model", MODEL_DIR, "--traces", traces).splitlines()
    assert re.fullmatch(r"3 traces, \d+ tokens scored in \d+\.\d s", shown[0])
    assert re.fullmatch(r"from hidden states, no logits in memory: statistics .* agree to \S+ nats", shown[1])
    assert re.fullmatch(r"mean confidence [01]\.\d{3} \(answer_disparity, 1 answer\)", shown[2])
    assert shown[3:] == [
        "1 trace without statistics, the first because: the completion is empty",
        f"traces  {tmp_path / 'mine.scored'}",
    ]
    table = pq.read_table(tmp_path / "mine.scored" / "part-00000.parquet")
    assert table.column("answer").to_pylist() == ["2", None, None]


def test_columns_answers_and_model_by_options(tmp_path: Path, scores: Scores) -> None:
    traces = write(tmp_path / "mine.jsonl", {"asked": "Q?", "said": [r"\boxed{7} or 8"], "key": "k"})
    columns = ("--columns.prompt", "asked", "--columns.completion", "said", "--columns.id", "key")
    options = ("--answer.format", "boxed", "--model.dtype", "bfloat16", "--output", tmp_path / "out")
    scores("--model", MODEL_DIR, "--traces", traces, *columns, *options)
    assert pq.read_table(tmp_path / "out" / "part-00000.parquet").select(["prompt_id", "answer"]).to_pylist() == [
        {"prompt_id": "k", "answer": "7"}
    ]
    kept = read_json(tmp_path / "out" / "scoring.json")["config"]
    assert (kept["model"]["dtype"], kept["columns"]["prompt"], kept["answer"]["format"]) == (
        "bfloat16",
        "asked",
        "boxed",
    )


def test_a_finished_one_is_not_done_again(tmp_path: Path, scores: Scores, fails: Fails) -> None:
    traces = write(tmp_path / "mine.jsonl", GOOD)
    first = scores("--model", MODEL_DIR, "--traces", traces, "--positions", "answer")
    shard = tmp_path / "mine.scored" / "part-00000.parquet"
    written = shard.stat().st_mtime_ns
    again = scores("--resume", "--output", tmp_path / "mine.scored")
    assert again.splitlines()[0] == "1 trace, 1 token scored before"
    assert again.splitlines()[1:] == first.splitlines()[1:]
    assert scores("--resume", "--traces", traces) == again, "the default output is found again"
    assert shard.stat().st_mtime_ns == written
    assert "mine.scored exists: choose another --output, or continue" in fails(
        "score", "--model", MODEL_DIR, "--traces", traces
    )
    line = fails("score", "--resume", "--traces", traces, "--positions", "completion")
    assert "mine.scored was made from other inputs (positions: 'answer' -> 'completion')" in line


@pytest.mark.slow
def test_an_interrupt_says_how_to_go_on(tmp_path: Path, scores: Scores) -> None:
    """A real Ctrl-C, once the first shard is there."""
    traces = write(tmp_path / "mine.jsonl", *({**GOOD, "id": f"p{n}", "completion": f"{n} " * 40} for n in range(800)))
    output = tmp_path / "my output"
    command = ("--model", str(MODEL_DIR), "--traces", str(traces), "--output", str(output), "--shard-traces", "4")
    process = subprocess.Popen([sys.executable, "-m", "rlsf", "score", *command], stderr=subprocess.PIPE, text=True)
    while not (output / "part-00000.parquet").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    line = f"stopped: what is finished is kept: go on with `rlsf score --resume --output '{output}'`"
    assert shown.splitlines()[-1] == line
    assert "Traceback" not in shown
    assert not (output / "manifest.json").exists()
    assert scores("--resume", "--output", output).startswith("800 traces, ")


def test_nothing_to_score_with(tmp_path: Path, fails: Fails) -> None:
    traces = write(tmp_path / "mine.jsonl", GOOD)
    assert "no model: say --model" in fails("score", "--traces", traces)
    assert "nothing to score: say --traces" in fails("score", "--model", MODEL_DIR)
    assert f"nothing to resume: no scoring was begun in {tmp_path / 'none'}" in fails(
        "score", "--resume", "--output", tmp_path / "none"
    )
    assert "no such" in fails("score", "--model", tmp_path / "nowhere", "--traces", traces)
    assert "--shard-traces" in fails("score", "--model", MODEL_DIR, "--traces", traces, "--shard-traces", "0")
    assert not (tmp_path / "mine.scored").exists()


def test_unusable_traces(tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    messages = {"prompt": [{"role": "user", "content": "Q?"}], "completion": "4"}
    cases = {
        tmp_path / "mine.josnl": r"no such file or folder: .*mine\.josnl",
        tmp_path / "broken.json": r"no such file or folder: .* \(did you mean 'broken\.jsonl'",
        write(tmp_path / "broken.jsonl", GOOD, '{"prompt": '): r"broken\.jsonl:2: not valid JSON",
        write(
            tmp_path / "column.jsonl", {"promt": "Q?", "completion": "4"}
        ): r"column\.jsonl:1: no column .*did you mean 'promt'",
        write(
            tmp_path / "neither.jsonl", GOOD, {**GOOD, "prompt": None}
        ): r"neither\.jsonl:2: neither a prompt nor its token ids",
        write(tmp_path / "ids.jsonl", GOOD, {"prompt": "Q?", "token_ids": [5, 99999]}): (
            r"ids\.jsonl:2: token id 99999 is outside the model's vocabulary of \d+ tokens"
        ),
        write(tmp_path / "other.jsonl", {"prompt": "Q?", "completion": "It is four.", "token_ids": [5, 6, 7]}): (
            r"other\.jsonl: the token ids belong to another vocabulary: .* their text is 'It is four\.'"
        ),
        write(tmp_path / "chat.jsonl", messages): r"chat\.jsonl:1: the prompt is messages, .* no chat template",
        write(tmp_path / "empty.jsonl"): r"empty\.jsonl: the file is empty",
        write(tmp_path / "a.csv", "prompt,completion"): r"a\.csv: unknown suffix '\.csv': use \.parquet, \.jsonl",
        tmp_path / "broken.parquet": r"broken\.parquet: not a Parquet file, or damaged",
        tmp_path / "folder": r"folder: no traces in it: .*there are: notes\.txt",
    }
    for path, pattern in cases.items():
        line = fails("score", "--model", MODEL_DIR, "--traces", path, "--output", tmp_path / "out")
        assert re.search(pattern, line), line
        assert not (tmp_path / "out").exists(), "the same command must work once the file is mended"
