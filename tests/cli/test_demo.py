"""The demo on a few questions: both recipes, the same traces, and what an interrupt says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlsf.cli.app import INTERRUPTED, execute

FEW = (
    *("--prompts.limit", "12", "--evaluation_data.limit", "10", "--sampling.branches", "6", "--sampling.workers", "1"),
    *("--training.max_steps", "2", "--training.batch_size", "4", "--evaluation.bootstrap", "100"),
)


def test_both_recipes_on_the_same_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "demo", tmp_path / "demo-rlsf-trace"
    assert execute(["demo", "--output", str(first), *FEW]) == 0
    shown = capsys.readouterr().out
    assert shown.count("CoT-decoding  before") == 2
    assert f"report  {first / 'report.html'}" in shown.replace("\n", "")
    for folder, signal in ((first, "answer_disparity"), (second, "trace_confidence")):
        summary = json.loads((folder / "evaluation" / "summary.json").read_text())
        assert summary["signal"] == signal
        assert summary["before"]["greedy"]["n"] == summary["after"]["greedy"]["n"] == 10
    parts = [folder / "traces" / "round-1" / "part-00000.parquet" for folder in (first, second)]
    assert parts[0].read_bytes() == parts[1].read_bytes()
    phases = [json.loads(line).get("phase") for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert "evaluate after" in phases
    assert not {"sample", "evaluate before"} & {*phases}


def test_a_resumed_method_need_not_be_named_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill, which says nothing: neither the recipe nor the keys that were changed."""

    def interrupted(run: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlsf.pipeline.run.run_all", interrupted)
    folder = str(tmp_path / "demo")
    command = ["demo", "--output", folder, "--recipe", "rlsf-rm", "--online.algorithm", "grpo", "--seed", "3"]
    assert execute(command) == INTERRUPTED
    begun = (tmp_path / "demo" / "recipe.yaml").read_text()
    capsys.readouterr()
    assert execute(["demo", "--output", folder, "--resume", "--dry-run"]) == 0
    assert capsys.readouterr().out == begun
    assert execute(["demo", "--output", folder, "--resume"]) == INTERRUPTED
    assert f"`rlsf demo --resume --output {folder}`" in capsys.readouterr().err


def test_an_interrupt_names_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(run: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlsf.pipeline.run.run_all", interrupted)
    assert execute(["demo", "--output", str(tmp_path / "demo"), "--seed", "3"]) == INTERRUPTED
    assert f"`rlsf demo --resume --output {tmp_path / 'demo'} --seed 3`" in capsys.readouterr().err
    assert execute(["demo", "--output", str(tmp_path / "lone"), "--alone"]) == INTERRUPTED
    assert f"`rlsf demo --resume --output {tmp_path / 'lone'} --alone`" in capsys.readouterr().err
