"""What `rlsf check` shows and what it expects a run to take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlsf.cli.app import execute
from rlsf.demo import MODEL_DIR
from rlsf.pipeline.cost import Trial, estimate_cost
from rlsf.recipes import parse_overrides, resolve


def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> str:
    monkeypatch.setenv("COLUMNS", "120")
    fixed = ("--model", MODEL_DIR, "--sampling.branches", "3", "--sampling.workers", "1")
    assert execute(["check", *map(str, fixed), *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_prompts_answers_verdicts_and_cost(
    demo_data: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = check(capsys, monkeypatch, "--prompts", demo_data[0], "--eval-data", demo_data[1], "--examples", "2")
    assert len(re.findall(r"─ self_training-5-[01], \d+ tokens ─", shown)) == 2
    assert re.findall(r"─ test-5-([01]), \d+ tokens, gold answer (\S+) ─", shown) == [("0", "16"), ("1", "D")]
    assert "│ Q: Vera packs 2 boxes with 6 stamps each." in shown
    rows = re.findall(r"^([012])  (\S+) +(right|wrong|) +(?:[01]\.\d{3})? +eos  (\S.*?) *$", shown, re.MULTILINE)
    assert [int(index) for index, *_ in rows] == [0, 1, 2] * 4
    assert [verdict != "" for _, _, verdict, _ in rows] == [False] * 6 + [True] * 6, "prompts have no gold answer"
    assert ("16", "right", "The answer is 16.") in [row[1:] for row in rows]  # 2 * 6 + 7 - 3
    # 2 prompts and 16 questions are tried; a run asks 24 prompts once and 16 questions twice, three traces each.
    assert f"{(2 + 16) * 3} traces tried" in shown
    assert "24 prompts to learn from; 16 questions to measure on; 168 traces of" in shown
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_prompts_and_questions_may_share_their_ids(
    demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    same = ("--prompts", demo_data[1], "--eval-data", demo_data[1])
    shown = check(capsys, monkeypatch, *same, "--examples", "1", "--ranking.threshold", "0")
    assert "16 prompts to learn from; 16 questions to measure on" in shown
    assert int(re.findall(r"about (\d+) pairs", shown)[0]) > 0


def test_gold_answers_of_the_prompts_serve_where_there_are_no_others(
    demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = check(capsys, monkeypatch, "--prompts", demo_data[1], "--examples", "1")
    assert "right" in shown
    assert "16 prompts to learn from; no --eval-data to measure on; 48 traces of" in shown


def test_cost_by_hand() -> None:
    recipe = resolve(
        "rlsf", overrides=parse_overrides(["sampling.branches=2", "sampling.workers=2", "training.rounds=3"])
    )
    # Of each prompt: 30 tokens written in half a second, 2 pairs; a trace with its prompt has 25 tokens on average.
    trial = Trial(prompts=4, tokens=120, sampling_seconds=2.0, pairs=8, lengths=[20, 30], forward_seconds=0.001)
    cost = estimate_cost(recipe, 40, 10, trial)
    asked = 3 * 40 + 2 * 10
    assert (cost.traces, cost.tokens) == (2 * asked, 30 * asked)
    assert cost.sampling_seconds == pytest.approx(0.5 * asked / 2)
    # 80 pairs a round make 5 steps of 16; 80 pairs x 3 (forward and backward) + 80 (reference), 50 tokens a pair.
    assert (cost.pairs, cost.optimiser_steps) == (3 * 80, 3 * 5)
    assert cost.training_seconds == pytest.approx(3 * (3 * 80 + 80) * 50 * 0.001)


def test_measuring_alone_asks_once() -> None:
    trial = Trial(prompts=1, tokens=7, sampling_seconds=1.0, pairs=1, lengths=[9], forward_seconds=0.001)
    cost = estimate_cost(resolve("rlsf"), 0, 10, trial)
    assert (cost.traces, cost.tokens, cost.pairs, cost.optimiser_steps) == (100, 70, 0, 0)
    assert cost.training_seconds == 0
