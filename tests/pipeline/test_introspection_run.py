"""Dialogues end to end on the bundled model: what is written, what labels touch, and that a run resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from run_files import weights

from rlsf.demo import write_data
from rlsf.errors import InputError
from rlsf.pipeline import introspection as stage
from rlsf.pipeline.context import Run
from rlsf.pipeline.dialogues import asker
from rlsf.pipeline.introspection import EXAMPLE_SCHEMA, EXAMPLES
from rlsf.pipeline.run import learn, run_all
from rlsf.pipeline.sampling import read_traces
from rlsf.prompts import render
from rlsf.recipes import Recipe

Build = Callable[..., Recipe]
Open = Callable[..., Run]

SMALL = (
    "introspection.samples=[1,3]",
    "introspection.turns=2",
    "introspection.feedback={question}",
    "introspection.training.max_steps=4",
    "introspection.training.batch_size=4",
    "introspection.training.save_every=2",
    "introspection.training.learning_rate=1e-4",
    "introspection.training.selection.prompts=2",
    "introspection.training.selection.every=2",
    "evaluation.modes=[greedy,turns]",
)


@pytest.fixture
def dialogue_recipe(small_recipe: Build) -> Build:
    return lambda *overrides: small_recipe(*SMALL, *overrides, name="rise-introspection")


def rows(folder: Path, round_: int = 1) -> list[dict]:
    table = pq.read_table(folder / "examples" / f"round-{round_}" / EXAMPLES)
    assert table.schema.equals(EXAMPLE_SCHEMA)
    return table.to_pylist()


def test_a_run_leaves_dialogues_examples_and_figures(tmp_path: Path, dialogue_recipe: Build, open_run: Open) -> None:
    folder = tmp_path / "run"
    with open_run(dialogue_recipe("introspection.rounds=2"), folder) as run:
        summary = run_all(run)
        ask = asker(run, run.recipe.model)
        asked = {prompt.id: prompt for prompt in run.prompts}
        first = {traces[0].prompt_id: traces[0] for traces in read_traces(folder / "traces/round-1/turn-1")}
        second = {traces[0].prompt_id: traces for traces in read_traces(folder / "traces/round-1/turn-2")}
        assert {len(traces) for traces in second.values()} == {3}
        for prompt_id, traces in second.items():
            turn = ask(asked[prompt_id], [first[prompt_id].text])
            assert traces[0].prompt_token_ids.tolist() == list(render(turn, run.tokenizer, run.recipe.render).token_ids)
    assert summary is not None
    assert set(summary["after"]) == {"greedy", "turns"}
    sampled = {trace.trace_id: trace for traces in second.values() for trace in traces}
    for row in rows(folder):
        trace = first[row["prompt_id"]] if row["turn"] == 1 else sampled[f"{row['prompt_id']}#{row['index']}"]
        assert row["prompt_ids"] == trace.prompt_token_ids.tolist()
        assert row["completion_ids"] == trace.token_ids.tolist()
        assert 0 <= row["reward"] <= 1
    assert {row["turn"] for row in rows(folder)} == {1, 2}
    assert {row["turn"] for row in rows(folder, 2)} <= {1, 2}
    for phase in ("before", "after"):
        figures = json.loads((folder / "evaluation" / phase / "turns.json").read_text())
        assert (figures["questions"], figures["turns"], len(figures["accuracy"])) == (16, 2, 2)
        assert figures["majority"] == summary[phase]["turns"]["accuracy"]
    report = (folder / "report.html").read_text()
    assert "Turn by turn" in report
    assert "asked again" in report
    assert "by reward-weighted regression" in (folder / "policy" / "README.md").read_text()
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    probes = [event for event in events if event["event"] == "probe" and event["round"] == 1]
    assert [event["step"] for event in probes] == [0, 2, 4]
    for event in probes:
        assert event["agreement"] == (event["agreement_first"] + event["agreement_second"]) / 2


def test_gold_rewards_are_those_of_right_answers(tmp_path: Path, dialogue_recipe: Build, open_run: Open) -> None:
    questions, _ = write_data(tmp_path / "data", 24, 8, seed=0, labelled=True)
    gold = {row["id"]: row["answer"] for row in map(json.loads, questions.read_text().splitlines())}
    recipe = dialogue_recipe("introspection.reward=gold", f"prompts.path={questions}")
    assert recipe.needs_labels
    with open_run(recipe, tmp_path / "run") as run:
        learn(run)
        graded = {prompt.id: prompt.gold for prompt in run.prompts}
    learned = rows(tmp_path / "run")
    assert graded.keys() == gold.keys()
    assert {row["reward"] for row in learned} >= {0.0, 1.0}
    for row in learned:
        assert row["reward"] == (-1.0 if row["answer"] is None else row["answer"] == graded[row["prompt_id"]]), row
    # A right first answer ends the dialogue.
    solved = {row["prompt_id"] for row in learned if row["turn"] == 1 and row["reward"] == 1}
    assert not solved & {row["prompt_id"] for row in learned if row["turn"] == 2}


def test_gold_rewards_need_gold_answers(tmp_path: Path, dialogue_recipe: Build, open_run: Open) -> None:
    assert not dialogue_recipe().needs_labels
    with open_run(dialogue_recipe("introspection.reward=gold"), tmp_path / "run") as run:
        with pytest.raises(InputError, match=r"learns from gold answers \(introspection\.reward=gold\)"):
            learn(run)


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    tmp_path: Path, dialogue_recipe: Build, open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_run(dialogue_recipe(), tmp_path / "whole") as run:
        learn(run)
    with monkeypatch.context() as patched, open_run(dialogue_recipe(), tmp_path / "cut") as run:
        patched.setattr(stage, "_write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learn(run)
    with open_run(dialogue_recipe(), tmp_path / "cut", resume=True) as run:
        patched_metrics = run.metrics.record
        run.metrics.record = lambda event: 1 / 0 if event.get("step") == 3 else patched_metrics(event)  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            learn(run)
    with open_run(dialogue_recipe(), tmp_path / "cut", resume=True) as run:
        learn(run)
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_nothing_to_learn_is_said(tmp_path: Path, dialogue_recipe: Build, open_run: Open) -> None:
    with open_run(dialogue_recipe("sampling.max_new_tokens=1", "answer.format=auto"), tmp_path / "run") as run:
        with pytest.raises(InputError, match=r"no trace has an answer|none of \d+ dialogues has a turn"):
            learn(run)
