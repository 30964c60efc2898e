"""`rlsf signals` as a user meets it: what it writes and shows, resume, and one line for every mistake."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mistakes import Fails, Succeeds, write

from rlsf.cli.app import execute
from rlsf.confidence import SIGNALS
from rlsf.demo import MODEL_DIR
from rlsf.evaluation.signal_schema import SignalStudy
from rlsf.files import read_json
from rlsf.pipeline.ranking import pieces_of
from rlsf.pipeline.sampling import read_traces

Studies = Callable[..., str]
SMALL = ("--sampling.max-new-tokens", "64", "--sampling.workers", "1", "--evaluation.bootstrap", "100")
MEASURED = [name for name in SIGNALS if name != "verbalised"]


@pytest.fixture
def studies(succeeds: Succeeds) -> Studies:
    """A function that runs `rlsf signals`, expects it to succeed, and returns what it printed."""
    return partial(succeeds, "signals")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, demo_data: tuple[Path, Path]) -> Path:
    """A study of sixteen labelled questions."""
    folder = tmp_path_factory.mktemp("signals") / "studied"
    command = ("--model", str(MODEL_DIR), "--data", str(demo_data[1]), "--output", str(folder))
    command += ("--sampling.shard-prompts", "8", "--seed", "3")
    assert execute(["signals", *command, *SMALL]) == 0
    return folder


def test_every_trace_is_graded_and_measured(studied: Path, demo_data: tuple[Path, Path]) -> None:
    from rlsf.models import load_tokenizer
    from rlsf.models.config import ModelConfig

    gold = {row["id"]: row["answer"] for row in map(json.loads, demo_data[1].read_text().splitlines())}
    rows = {
        (row["prompt_id"], row["index"]): row
        for row in pq.read_table(studied / "signals" / "traces.parquet").to_pylist()
    }
    traces = [trace for group in read_traces(studied / "traces" / "round-1") for trace in group]
    assert [(trace.prompt_id, trace.index) for trace in traces] == list(rows)
    assert len(traces) == 160
    tokenizer = load_tokenizer(ModelConfig(path=str(MODEL_DIR)))
    for trace in traces:
        row = rows[trace.prompt_id, trace.index]
        assert row["answer"] == (trace.answer.text if trace.answer else None)
        assert row["correct"] == (row["answer"] == gold[trace.prompt_id])
        assert row["worked"] == (None if trace.answer is None else " = " in trace.text)
        for name in MEASURED:
            assert row[name] == SIGNALS[name].confidence(trace, pieces_of(trace, tokenizer))
        assert row["verbalised"] is None


def test_the_file_has_every_figure(studied: Path) -> None:
    study = SignalStudy.model_validate(read_json(studied / "signals.json"))
    assert (study.questions, study.traces, study.settings.seed, study.settings.resamples) == (16, 160, 3, 100)
    assert list(study.signals) == MEASURED
    assert study.advice.startswith(("Trust ", "These questions separate no signal"))
    for one in study.signals.values():
        assert set(one.figures) == set(study.definitions)
        for figure in one.figures.values():
            assert figure.value is None or figure.interval is not None


def test_the_page_loads_nothing_and_has_every_signal(studied: Path) -> None:
    page = (studied / "signals.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert page.count("<svg") >= 8
    for name in MEASURED:
        assert f'<th scope="row">{name}</th>' in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert SignalStudy.model_validate(read_json(studied / "signals.json")).advice in page


def test_a_finished_study_is_not_done_again(
    studied: Path, demo_data: tuple[Path, Path], studies: Studies, fails: Fails
) -> None:
    measured = studied / "signals" / "traces.parquet"
    before, figures = measured.stat().st_mtime_ns, (studied / "signals.json").read_text()
    shown = studies("--resume", "--output", studied)
    assert measured.stat().st_mtime_ns == before
    assert (studied / "signals.json").read_text() == figures
    assert shown.startswith("160 traces of 16 questions, ")
    for name in MEASURED:
        assert re.search(rf"^ {name} +0\.\d{{3}} \(0\.\d+", shown, re.MULTILINE)
    line = fails("signals", "--model", MODEL_DIR, "--data", demo_data[1], "--output", studied)
    assert "studied exists: choose another --output" in line
    line = fails("signals", "--resume", "--output", studied, "--signals", "answer_entropy,answer_disparity")
    assert "was made from other inputs (signals" in line
    assert studies("--resume", "--output", studied) == shown
    line = fails("signals", "--resume", "--output", studied, "--direct-tokens", "3")
    assert "was made from other inputs (direct_tokens: 10 -> 3)" in line


def test_an_interrupted_study_ends_as_one_that_was_not(studied: Path, tmp_path: Path, studies: Studies) -> None:
    """As a process leaves it that was killed while it sampled the second shard."""
    folder = tmp_path / "killed"
    shutil.copytree(studied, folder)
    traces = folder / "traces" / "round-1"
    kept, lost = traces / "part-00000.parquet", traces / "part-00001.parquet"
    before = kept.stat().st_mtime_ns
    shutil.rmtree(folder / "signals")
    for name in ("signals.json", "signals.html"):
        (folder / name).unlink()
    (traces / "manifest.json").unlink()
    lost.rename(traces / f".{lost.name}.partial-1")
    studies("--resume", "--output", folder)
    assert kept.stat().st_mtime_ns == before
    assert (folder / "signals.json").read_text() == (studied / "signals.json").read_text()
    assert (folder / "signals.html").read_bytes() == (studied / "signals.html").read_bytes()


def test_signals_of_choice_and_a_judge(tmp_path: Path, demo_data: tuple[Path, Path], studies: Studies) -> None:
    few = write(tmp_path / "few.jsonl", *demo_data[1].read_text().splitlines()[:4])
    asked = ("--signals", "answer_disparity", "verbalised,trace_confidence", "--judge.template", "terse")
    studies("--model", MODEL_DIR, "--data", few, "--output", tmp_path / "out", *SMALL, *asked)
    study = SignalStudy.model_validate(read_json(tmp_path / "out" / "signals.json"))
    assert list(study.signals) == ["answer_disparity", "trace_confidence", "judge"]
    judged = pq.read_table(tmp_path / "out" / "judgements" / "round-1" / "part-00000.parquet")["confidence"].to_pylist()
    assert pq.read_table(tmp_path / "out" / "signals" / "traces.parquet")["judge"].to_pylist() == judged


def test_samples_have_no_greedy_accuracy(tmp_path: Path, demo_data: tuple[Path, Path], studies: Studies) -> None:
    few = write(tmp_path / "few.jsonl", *demo_data[1].read_text().splitlines()[:4])
    options = ("--sampling.strategy", "sampling", "--sampling.branches", "4", "--signals", "answer_probability")
    shown = studies("--model", MODEL_DIR, "--data", few, "--output", tmp_path / "out", *SMALL, *options)
    shares = r"^right: a trace at random [\d.]+\u202f%, the majority [\d.]+\u202f%, any trace "
    assert re.search(shares, shown, re.MULTILINE)


def test_mistakes_are_met_before_any_work(tmp_path: Path, demo_data: tuple[Path, Path], fails: Fails) -> None:
    known = ("--model", MODEL_DIR, "--data", demo_data[1], "--output", tmp_path / "out")
    unlabelled = write(tmp_path / "unlabelled.jsonl", {"id": "a", "question": "1 + 1?"})
    served = ("--model.server.url", "http://127.0.0.1:9", "--model.server.model", "m")
    for arguments, said in (
        (("--model", MODEL_DIR), "no labelled questions: say --data FILE"),
        (("--data", demo_data[1]), "no model: say --model FOLDER_OR_HUB_ID"),
        ((*known, "--signals", "answer_dispartiy"), "unknown confidence signal 'answer_dispartiy' (did you mean"),
        ((*known, *served, "--signals", "self_certainty"), "signal=self_certainty needs logsumexp and mean_logit"),
        ((*known, *served, "--judge.template", "terse"), "judge asks for probabilities that a server does not return"),
        (("--model", MODEL_DIR, "--data", unlabelled), "unlabelled.jsonl:1"),
        ((*known, "--direct-tokens", "-1"), "Must be >= 0"),
        ((*known, "--sampling.branchs", "3"), "sampling.branchs"),
        (("--resume",), "--resume needs the run to go on with"),
    ):
        assert said in fails("signals", *arguments)
    assert not (tmp_path / "out").exists()


def test_the_recipe_is_shown_and_nothing_is_done(tmp_path: Path, studies: Studies) -> None:
    shown = studies("--model", MODEL_DIR, "--output", tmp_path / "out", "--dry-run", "--signals", "answer_disparity")
    assert "branches: 10" in shown
    assert "signal: answer_disparity" in shown
    assert not (tmp_path / "out").exists()
