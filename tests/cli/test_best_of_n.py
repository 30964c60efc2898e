"""`rlsf best-of-n` as a user meets it: traces sampled or given, what it writes, and one line for every mistake."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from mistakes import Fails, Succeeds, write

from rlsf.cli.app import execute
from rlsf.confidence import get_signal
from rlsf.demo import MODEL_DIR
from rlsf.files import read_json
from rlsf.pipeline.sampling import read_traces
from rlsf.select import choose
from rlsf.tokenstats.statistics import STATISTIC_NAMES

Chooses = Callable[..., str]
SMALL = ("--sampling.max-new-tokens", "64", "--sampling.workers", "1", "--evaluation.bootstrap", "100")
SAMPLES = {
    "prompt": "Q: 1 + 1?",
    "completion": ["It is 2.", "I say 3", "So 2.0", "no idea", "3!"],
    "sure": [0.5, 0.9, 0.3, 1.0, 0.2],
    "id": "a",
}


@pytest.fixture
def chooses(succeeds: Succeeds) -> Chooses:
    """A function that runs `rlsf best-of-n`, expects it to succeed, and returns what it printed."""
    return partial(succeeds, "best-of-n")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory, demo_data: tuple[Path, Path]) -> Path:
    """Eight traces of each of sixteen labelled questions, and what was chosen of them."""
    folder = tmp_path_factory.mktemp("best-of-n") / "sampled"
    command = ("--model", str(MODEL_DIR), "--data", str(demo_data[1]), "--n", "8", "--output", str(folder))
    command += ("--sampling.shard-prompts", "8")
    assert execute(["best-of-n", *command, *SMALL]) == 0
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "selection" / "answers.jsonl").read_text().splitlines()]


def chosen(folder: Path, selector: str) -> list[str | None]:
    return [row["answer"] for row in rows(folder) if row["selector"] == selector]


def test_sampled_traces_and_what_is_chosen(sampled: Path, demo_data: tuple[Path, Path]) -> None:
    questions = [json.loads(line) for line in demo_data[1].read_text().splitlines()]
    written, signal = rows(sampled), get_signal("self_certainty")
    groups = {group[0].prompt_id: group for group in read_traces(sampled / "traces" / "round-1")}
    assert list(groups) == [question["id"] for question in questions]
    assert all(len(group) == 8 and group[0].strategy == "sampling" for group in groups.values())
    assert [row["id"] for row in written] == [question["id"] for question in questions for _ in range(4)]
    for row in written:
        group = groups[row["id"]]
        confidences = [signal.confidence(trace) for trace in group]
        vote = choose(row["selector"], [trace.answer.text if trace.answer else None for trace in group], confidences)
        assert vote is not None
        assert (row["index"], row["votes"], row["traces"]) == (group[vote.index].index, len(vote.members), 8)
        assert row["confidence"] == confidences[vote.index]
        answer = group[vote.index].answer
        assert answer is not None
        assert row["answer"] == answer.text
        assert row["correct"] == (row["answer"] == row["gold"])
    curves = read_json(sampled / "selection" / "curves.json")
    assert (curves["questions"], curves["sizes"]) == (16, [1, 2, 4, 8])
    for selector, estimates in curves["accuracy"].items():
        right = [row["correct"] for row in written if row["selector"] == selector]
        assert estimates[-1]["value"] == pytest.approx(sum(right) / 16)
    recipe = (sampled / "recipe.yaml").read_text()
    for line in ("strategy: sampling", "branches: 8", "temperature: 0.6", "top_p: 0.9", "signal: self_certainty"):
        assert line in recipe


def test_a_finished_one_is_not_done_again(
    sampled: Path, demo_data: tuple[Path, Path], chooses: Chooses, fails: Fails
) -> None:
    answers = sampled / "selection" / "answers.jsonl"
    before = answers.stat().st_mtime_ns
    shown = chooses("--resume", "--output", sampled)
    assert answers.stat().st_mtime_ns == before
    assert shown.startswith("128 traces of 16 questions\n")
    assert re.search(r"majority +\d", shown)
    assert re.search(r"any right +\d", shown)
    line = fails("best-of-n", "--model", MODEL_DIR, "--data", demo_data[1], "--output", sampled)
    assert "sampled exists: choose another --output" in line
    line = fails("best-of-n", "--resume", "--output", sampled, "--selectors", "majority")
    assert "selection was made from other inputs (selectors:" in line
    line = fails("best-of-n", "--resume", "--output", sampled, "--signal", "answer_disparity")
    assert "was started with another recipe (signal: 'self_certainty' -> 'answer_disparity')" in line


def test_an_interrupted_one_ends_as_one_that_was_not(sampled: Path, tmp_path: Path, chooses: Chooses) -> None:
    """As a process leaves it that was killed while it sampled the second shard."""
    folder = tmp_path / "killed"
    shutil.copytree(sampled, folder)
    traces = folder / "traces" / "round-1"
    kept, lost = traces / "part-00000.parquet", traces / "part-00001.parquet"
    before = kept.stat().st_mtime_ns
    shutil.rmtree(folder / "selection")
    (traces / "manifest.json").unlink()
    lost.rename(traces / f".{lost.name}.partial-1")
    chooses("--resume", "--output", folder)
    assert rows(folder) == rows(sampled)
    assert read_json(folder / "selection" / "curves.json") == read_json(sampled / "selection" / "curves.json")
    assert kept.stat().st_mtime_ns == before
    assert not list(traces.glob(".*partial*"))


def test_our_traces_by_another_signal(
    sampled: Path, demo_data: tuple[Path, Path], tmp_path: Path, chooses: Chooses
) -> None:
    options = ("--signal", "answer_disparity", "--selectors", "argmax", "majority,borda:2", "--n", "4")
    chooses("--traces", sampled, "--data", demo_data[1], *options, "--output", tmp_path / "out")
    written, signal = rows(tmp_path / "out"), get_signal("answer_disparity")
    assert [row["selector"] for row in written[:3]] == ["argmax", "majority", "borda:2"]
    groups = {group[0].prompt_id: group[:4] for group in read_traces(sampled / "traces" / "round-1")}
    for row in written[::3]:
        values = [signal.confidence(trace) for trace in groups[row["id"]]]
        assert row["confidence"] == max((value for value in values if value is not None), default=None)
        assert row["share"] is None
    assert read_json(tmp_path / "out" / "selection" / "curves.json")["sizes"] == [1, 2, 4]


def test_traces_without_gold_answers(sampled: Path, tmp_path: Path, chooses: Chooses) -> None:
    shown = chooses("--traces", sampled / "traces" / "round-1", "--output", tmp_path / "out")
    assert "no gold answers: nothing was measured (--data with answers gives accuracy over N)" in shown
    assert not (tmp_path / "out" / "selection" / "curves.json").exists()
    assert "correct" not in rows(tmp_path / "out")[0]
    assert chosen(tmp_path / "out", "majority") == chosen(sampled, "majority")


def test_questions_without_gold_answers(tmp_path: Path, demo_data: tuple[Path, Path], chooses: Chooses) -> None:
    questions = write(tmp_path / "few.jsonl", *demo_data[0].read_text().splitlines()[:2])
    options = ("--data", questions, "--n", "3", "--output", tmp_path / "out", *SMALL)
    assert "no gold answers" in chooses("--model", MODEL_DIR, *options)
    assert [row["traces"] for row in rows(tmp_path / "out")] == [3] * 8


def test_a_confidence_of_ones_own(tmp_path: Path, chooses: Chooses) -> None:
    """No model: the answers are found in the texts, the gold answer is in the file."""
    traces = write(tmp_path / "mine.jsonl", {**SAMPLES, "gold": 2}, {**SAMPLES, "id": "b", "gold": "3"})
    chooses("--traces", traces, "--columns.confidence", "sure")
    folder = tmp_path / "mine.best-of-n"
    assert chosen(folder, "majority") == ["2", "2"]
    assert chosen(folder, "argmax") == ["3", "3"]
    assert chosen(folder, "weighted") == ["3", "3"]  # .9 + .2 against .5 + .3
    first = rows(folder)[0]
    assert (first["index"], first["confidence"], first["votes"], first["share"]) == (0, 0.5, 2, 0.5)
    curves = read_json(folder / "selection" / "curves.json")
    assert [estimate["value"] for estimate in curves["accuracy"]["majority"]][::3] == pytest.approx([0.4, 0.5])
    assert chosen(folder, "borda:1") == []


def test_gold_answers_of_traces_serve_where_the_data_have_none(tmp_path: Path, chooses: Chooses) -> None:
    traces = write(tmp_path / "mine.jsonl", {**SAMPLES, "gold": 2})
    data = write(tmp_path / "data.jsonl", {"id": "a", "question": "1 + 1?"})
    twice = ("--selectors", "majority,borda:2", "borda:2.0", "majority")
    chooses("--traces", traces, "--columns.confidence", "sure", "--data", data, *twice)
    written = rows(tmp_path / "mine.best-of-n")
    assert [(row["selector"], row["correct"]) for row in written] == [("majority", True), ("borda:2", False)]


def test_samples_may_come_in_any_order(tmp_path: Path, chooses: Chooses) -> None:
    """One record a sample, all questions' first samples before all second ones."""
    said = [{"prompt": "Q?", "completion": f"{n}", "id": id, "c": c} for n, c in ((1, 0.2), (2, 0.9)) for id in "ab"]
    chooses("--traces", write(tmp_path / "mine.jsonl", *said), "--columns.confidence", "c")
    assert chosen(tmp_path / "mine.best-of-n", "argmax") == ["2", "2"]
    assert [row["traces"] for row in rows(tmp_path / "mine.best-of-n")] == [2] * 8


def test_raw_confidences_rank(tmp_path: Path, chooses: Chooses, capsys: pytest.CaptureFixture[str]) -> None:
    traces = write(tmp_path / "mine.jsonl", {**SAMPLES, "sure": [-3, 14, -5, 0, None]})
    command = ("--traces", traces, "--columns.confidence", "sure")
    assert execute(["best-of-n", *map(str, command)]) == 0
    assert "confidence -3 of question 'a' is not in [0, 1], as the selector weighted needs it: it is left out" in (
        " ".join(capsys.readouterr().err.split())
    )
    assert {row["selector"] for row in rows(tmp_path / "mine.best-of-n")} == {"majority", "borda", "argmax"}
    assert chosen(tmp_path / "mine.best-of-n", "argmax") == ["3"]


def test_another_engines_samples_are_scored(tmp_path: Path, chooses: Chooses) -> None:
    asked = {"id": "a", "prompt": "Q: Tom has 3 apples and buys 4 more. How many apples does Tom have now?\nA:"}
    traces = write(tmp_path / "mine.jsonl", {**asked, "completion": ["The answer is 7.", "The answer is 9."]})
    gold = write(tmp_path / "gold.jsonl", {"id": "a", "question": "?", "answer": "7"})
    output = tmp_path / "out"
    command = ("--traces", traces, "--model", MODEL_DIR, "--data", gold, "--output", output, "--signal", "mean_logprob")
    chooses(*command)
    [group] = read_traces(output / "scored")
    confidences = [get_signal("mean_logprob").confidence(trace) for trace in group]
    assert [row["confidence"] for row in rows(output) if row["selector"] == "argmax"] == [max(confidences)]
    assert chosen(output, "argmax") == [["7", "9"][confidences.index(max(confidences))]]
    assert "curves" in chooses("--resume", "--output", output)


def test_mistakes_in_one_line(sampled: Path, tmp_path: Path, fails: Fails) -> None:
    mine = write(tmp_path / "mine.jsonl", SAMPLES)
    other = write(tmp_path / "other.jsonl", {"id": "z", "question": "?", "answer": "7"})
    named = write(tmp_path / "named.jsonl", {"asked": "?", "answer": "7"})
    stripped = tmp_path / "bare.parquet"
    table = pq.read_table(sampled / "traces" / "round-1" / "part-00000.parquet")
    pq.write_table(table.drop_columns(list(STATISTIC_NAMES)), stripped)
    by_sure = ("--traces", mine, "--columns.confidence", "sure")
    cases: dict[Sequence[str | Path], str] = {
        (): r"nothing to choose from: say --model MODEL --data FILE, or --traces",
        ("--model", MODEL_DIR): r"no questions: say --data FILE",
        ("--model", MODEL_DIR, "--data", other, "--signal", "sureness"): r"unknown confidence signal 'sureness'",
        (
            "--model",
            MODEL_DIR,
            "--data",
            other,
            "--selectors",
            "bord",
        ): r"unknown selector 'bord' \(did you mean",
        ("--model", MODEL_DIR, "--data", tmp_path / "none.jsonl"): r"no such file",
        (
            *("--model", MODEL_DIR, "--data", other),
            *("--model.server.url", "http://localhost:9/v1"),
        ): r"signal=self_certainty needs .* a server returns the likeliest",
        (
            *("--model", MODEL_DIR, "--data", other),
            "--columns.gold",
            "answer",
        ): r"--columns\.gold means nothing without",
        ("--model", MODEL_DIR, "--data", named): r"named\.jsonl:1: .* with evaluation_data\.columns\.question",
        ("--traces", tmp_path / "none.jsonl"): r"no such file or folder",
        ("--traces", mine): r"have no statistics for self_certainty: say --model, .* or name a column",
        ("--traces", stripped, "--signal", "mean_logprob"): r"have no statistics for mean_logprob: say --model",
        ("--traces", sampled, "--signal", "trace_confidence"): r"are to be read for trace_confidence: say --model",
        ("--traces", sampled, "--columns.confidence", "sure"): r"--columns\.\* mean nothing for .*sampled",
        (*by_sure, "--data", other): r"other\.jsonl: no question with the id 'a', .* \(1 of 1 are missing\)",
        (*by_sure, "--sampling.branches", "8"): r"--sampling\.branches means nothing where --traces are given",
        (*by_sure, "--selector", "majority"): r"--selector means nothing .*did you mean 'selectors'",
        (*by_sure, "--data", other, "--columns.gold", "id"): r"gold answers are in --data or in --columns\.gold",
        ("--traces", mine, "--columns.confidence", "sur"): r"mine\.jsonl:1: no column 'sur' \(did you mean 'sure'\?\)",
        ("--traces", mine, "--columns.confidence", "id"): r"mine\.jsonl:1: 1 in 'id' for 5 completions: give one each",
        ("--resume", "--output", tmp_path / "out"): r"nothing to resume: nothing was begun in .*out",
        ("--resume",): r"--resume needs the folder to go on with: --output FOLDER",
        ("--traces", mine, "--n", "0"): r"--n",
    }
    for arguments, pattern in cases.items():
        output = () if "--output" in arguments or arguments == ("--resume",) else ("--output", tmp_path / "out")
        line = fails("best-of-n", *arguments, *output)
        assert re.search(pattern, line), line
        assert not (tmp_path / "out").exists(), "the same command must work once the mistake is mended"
    raw = write(tmp_path / "raw.jsonl", {**SAMPLES, "sure": [-3, 14, -5, 0, 1]})
    command = ("--traces", raw, "--columns.confidence", "sure", "--selectors", "weighted", "--output", tmp_path / "out")
    assert "confidence -3 of question 'a' is not in [0, 1]" in fails("best-of-n", *command)
    twice = write(tmp_path / "twice.jsonl", {**SAMPLES, "gold": 2}, {**SAMPLES, "gold": 3})
    command = ("--traces", twice, "--columns.confidence", "sure", "--output", tmp_path / "out")
    assert "twice.jsonl:2: gold answer '3' for question 'a', which had '2'" in fails("best-of-n", *command)
    wrong = write(tmp_path / "wrong.jsonl", {**SAMPLES, "sure": [1, 2, "much", 3, 4]})
    command = ("--traces", wrong, "--columns.confidence", "sure", "--output", tmp_path / "out")
    assert "wrong.jsonl:1: the confidence in 'sure' must be a finite number or null, found 'much'" in fails(
        "best-of-n", *command
    )


def test_a_file_of_ones_own_wins_over_the_papers_settings(tmp_path: Path, chooses: Chooses) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("sampling: {temperature: 0.9}\nsignal: mean_logprob\n")
    shown = chooses("--model", "m", "--config", mine, "--dry-run")
    for line in ("temperature: 0.9", "top_p: 0.9", "branches: 64", "signal: mean_logprob"):
        assert line in shown


def test_the_example_of_the_page(tmp_path: Path, chooses: Chooses) -> None:
    page = (Path(__file__).parents[2] / "docs" / "best-of-n.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith('{"id"')]
    assert len(lines) == 2
    chooses("--traces", write(tmp_path / "mine.jsonl", *lines), "--columns.confidence", "score")
    assert chosen(tmp_path / "mine.best-of-n", "argmax") == ["2", "3"]
    keys = re.findall(r"`(\w+)`", page.partition("| key | |")[2].partition("`curves.json`:")[0])
    assert set(rows(tmp_path / "mine.best-of-n")[0]) <= set(keys)
