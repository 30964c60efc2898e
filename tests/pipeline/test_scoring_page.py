"""docs/scoring.md: its records are read, its options exist, its Python runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from given_traces import all_traces, lines, score

from rlsf.cli.app import app
from rlsf.demo import MODEL_DIR
from rlsf.pipeline.completions import read_completions
from rlsf.pipeline.scoring_config import CompletionColumns
from rlsf.prompts.fields import Row

PAGE = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")


def test_every_record_is_read() -> None:
    records = [json.loads(line) for line in re.findall(r"^\{.*\}$", PAGE, re.MULTILINE)]
    found = [read_completions(Row("page", record), CompletionColumns()) for record in records]
    texts = [["The answer is 2."], ["2", "The answer is 2."], [" 2"], ["2"]]
    assert [[sample.text for sample in record.samples] for record in found] == texts


def test_every_option_is_there() -> None:
    known = {name for argument in app["score"].assemble_argument_collection() for name in argument.names}
    said = re.findall(r"^\| `(--[\w.-]+)", PAGE, re.MULTILINE) + re.findall(
        r"^rlsf score .*?(--[a-z-]+)", PAGE, re.MULTILINE
    )
    recipe_keys = ("--answer.", "--model.", "--render.")
    assert said
    assert [option for option in said if option not in known and not option.startswith(recipe_keys)] == []


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    records = ({"id": "a", "prompt": "Q: 1 + 1?", "completion": ["The answer is 2.", "It is 3."]},)
    score(lines(tmp_path / "vllm-outputs.jsonl", *records), tmp_path / "vllm-outputs.scored")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    capsys.readouterr()
    exec(
        code.replace("Qwen/Qwen2.5-1.5B-Instruct", str(MODEL_DIR)),
        {"traces": all_traces(tmp_path / "vllm-outputs.scored")},
    )
    shown = capsys.readouterr().out
    assert re.search(r"^\[[01]\.\d+, [01]\.\d+\]$", shown, re.MULTILINE)
    assert re.search(r"^a#0 \[", shown, re.MULTILINE)
    assert "fused statistics with and without logits agree" in shown
