"""`rlsf ask --batch`: a line a question, the same file however often it was interrupted."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mistakes import Fails, Succeeds, write

from rlsf.cli.app import INTERRUPTED, execute
from rlsf.demo import MODEL_DIR

Asks = Callable[..., list[str]]
SETTINGS = (
    *("--sampling.branches", "3", "--sampling.max-new-tokens", "48"),
    *("--sampling.shard-prompts", "4", "--sampling.workers", "1"),
)


@pytest.fixture
def asks(succeeds: Succeeds) -> Asks:
    """A function that runs `rlsf ask`, expects it to succeed, and returns the lines that it printed."""
    return lambda *arguments: succeeds("ask", *arguments).splitlines()


@pytest.fixture(scope="module")
def whole(demo_data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The replies to ten questions, never interrupted."""
    output = tmp_path_factory.mktemp("whole") / "replies.jsonl"
    said = ("--model", MODEL_DIR, "--batch", demo_data[0], "--prompts.limit", "10", "--output", output, *SETTINGS)
    assert execute(["ask", *map(str, said)]) == 0
    return output


def test_a_line_a_question(whole: Path, demo_data: tuple[Path, Path]) -> None:
    replies = [json.loads(line) for line in whole.read_text().splitlines()]
    questions = [json.loads(line) for line in demo_data[0].read_text().splitlines()]
    assert [reply["id"] for reply in replies] == [question["id"] for question in questions][:10]
    for reply in replies:
        assert (reply["calibrated"], reply["abstained"]) == (False, False)
        assert reply["traces"] == 3
        assert reply["tokens"] > 0
        assert (reply["answer"] is None) == (reply["reason"] is not None)
    assert any(reply["answer"] for reply in replies)


@pytest.mark.parametrize("lines", [0, 1, 4, 6, 10])
@pytest.mark.parametrize("torn", [False, True])
def test_a_resumed_file_equals_a_whole_one(whole: Path, tmp_path: Path, asks: Asks, lines: int, torn: bool) -> None:
    """Wherever it was cut, within a line as well, as a kill while writing leaves it."""
    output = tmp_path / "replies.jsonl"
    content = whole.read_bytes()
    kept = b"".join(content.splitlines(keepends=True)[:lines])
    output.write_bytes(kept + (content[len(kept) : len(kept) + 37] if torn else b""))
    asked = json.loads((whole.parent / "replies.jsonl.asked").read_text())
    (tmp_path / "replies.jsonl.asked").write_text(json.dumps(asked))
    if lines == 0 and not torn:
        shown = asks("--resume", "--output", output, *_again(asked))
    else:
        shown = asks("--resume", "--output", output)
    assert output.read_bytes() == content
    assert shown[0].startswith(f"{10 - lines} of 10 questions asked: ")


def _again(asked: dict) -> tuple[str, ...]:
    """Nothing need be said again; saying the same is no change."""
    return ("--model", asked["settings"]["recipe"]["model"]["path"], "--mode", "cot_decoding")


def test_what_changed_is_refused(
    whole: Path, tmp_path: Path, asks: Asks, fails: Fails, demo_data: tuple[Path, Path]
) -> None:
    for name in ("replies.jsonl", "replies.jsonl.asked"):
        shutil.copy(whole.parent / name, tmp_path / name)
    output, before = tmp_path / "replies.jsonl", whole.read_bytes()
    again = ("ask", "--resume", "--output", output)
    assert "exists: choose another --output, or go on with it with --resume" in fails(
        "ask", "--model", MODEL_DIR, "--batch", demo_data[0], "--output", output
    )
    for change, difference in (
        (("--mode", "majority"), "mode: 'cot_decoding' -> 'majority'"),
        (("--signal", "mean_disparity"), "signal: 'answer_disparity' -> 'mean_disparity'"),
        (("--sampling.branches", "5"), "sampling.branches: 3 -> 5"),
        (("--prompts.limit", "9"), "questions: "),
    ):
        assert f"was asked otherwise ({difference}" in fails(*again, *change)
    assert output.read_bytes() == before
    assert asks(*again[1:], "--sampling.workers", "2")[0].startswith("0 of 10 questions asked")
    (tmp_path / "replies.jsonl.asked").unlink()
    said = ("--model", MODEL_DIR, "--batch", demo_data[0], "--prompts.limit", "10", *SETTINGS)
    (tmp_path / "replies.jsonl.asked").write_text("{}")
    assert "replies.jsonl.asked does not say how" in fails(*again)
    (tmp_path / "replies.jsonl.asked").unlink()
    assert "replies.jsonl.asked is not beside it" in fails(*again, *said)
    assert output.read_bytes() == before


def test_a_line_that_is_no_reply(whole: Path, tmp_path: Path, fails: Fails) -> None:
    shutil.copy(whole.parent / "replies.jsonl.asked", tmp_path / "replies.jsonl.asked")
    first, second, *_ = whole.read_text().splitlines()
    output = write(tmp_path / "replies.jsonl", first, second.replace('"id": "', '"id": "not-', 1))
    line = fails("ask", "--resume", "--output", output)
    assert re.search(r"replies\.jsonl:2: not the reply to question 2", line)


def test_processes_change_nothing_but_speed(
    whole: Path, tmp_path: Path, asks: Asks, demo_data: tuple[Path, Path]
) -> None:
    output = tmp_path / "replies.jsonl"
    said = ("--model", MODEL_DIR, "--batch", demo_data[0], "--prompts.limit", "10", "--output", output, *SETTINGS)
    shown = asks(*said, "--sampling.workers", "2")
    assert shown[1] == f"replies  {output}"
    replies, others = ([json.loads(line) for line in path.read_text().splitlines()] for path in (output, whole))
    for reply, other in zip(replies, others, strict=True):
        assert reply.pop("confidence") == pytest.approx(other.pop("confidence"), abs=1e-5)
        assert reply.pop("measured") == pytest.approx(other.pop("measured"), abs=1e-5)
        assert reply == other


def test_questions_are_looked_at_first(tmp_path: Path, fails: Fails) -> None:
    rows = ({"id": "a", "question": "1 + 1?"}, {"id": "long", "question": "How many? " * 500})
    output = tmp_path / "out.jsonl"
    said = ("ask", "--model", MODEL_DIR, "--output", output)
    assert "prompt 'long' has" in fails(*said, "--batch", write(tmp_path / "long.jsonl", *rows))
    twice = write(tmp_path / "twice.jsonl", rows[0], rows[0])
    assert "twice.jsonl:2: id 'a' is taken" in fails(*said, "--batch", twice)
    assert f"{tmp_path} is a folder: name a file" in fails(
        "ask", "--model", MODEL_DIR, "--output", tmp_path, "--batch", write(tmp_path / "one.jsonl", rows[0])
    )
    assert not list(tmp_path.glob("out*"))


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlsf.pipeline.asking_batch.ask_batch", interrupted)
    questions = write(tmp_path / "q.txt", "1 + 1?", "1 + 2?")
    said = ("ask", "--model", MODEL_DIR, "--batch", questions, "--output", tmp_path / "out.jsonl")
    assert execute([*map(str, said)]) == INTERRUPTED
    line = f"stopped: what is finished is kept: go on with `rlsf ask --resume --output {tmp_path / 'out.jsonl'}`"
    assert capsys.readouterr().err.splitlines()[-1] == line


def test_workers_are_for_a_file(tmp_path: Path, fails: Fails) -> None:
    assert "--workers and --ray-address are for --batch" in fails(
        "ask", "2 + 2?", "--model", MODEL_DIR, "--workers", "2"
    )
    asked = ("ask", "--model", MODEL_DIR, "--batch", tmp_path / "none.jsonl", "--output", tmp_path / "replies.jsonl")
    assert "no such file" in fails(*asked, "--workers", "2")
