"""The loop end to end on the bundled model: what it writes, and what its results do not depend on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from run_files import weights

from rlsf.errors import InputError
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.preflight import preflight
from rlsf.pipeline.ranking import rank_stage
from rlsf.pipeline.run import evaluate_all, run_all, sample_round
from rlsf.pipeline.training import train_stage
from rlsf.recipes import Recipe
from rlsf.traces import TRACE_SCHEMA

Build = Callable[..., Recipe]
Open = Callable[..., Run]


def trace_rows(folder: Path) -> list[dict]:
    tables = [pq.read_table(path) for path in sorted((folder / "traces" / "round-1").glob("part-*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def learn(run: Run) -> None:
    with run:
        sample_round(run, 1)
        rank_stage(run, 1)
        train_stage(run, 1)


def test_a_run_leaves_a_whole_folder(tmp_path: Path, small_recipe: Build, open_run: Open) -> None:
    folder = tmp_path / "run"
    with open_run(small_recipe(), folder) as run:
        summary = run_all(run)
    assert summary == json.loads((folder / "evaluation" / "summary.json").read_text())
    for phase in ("before", "after"):
        for mode in ("greedy", "cot_decoding", "majority"):
            values = summary[phase][mode]
            assert values["n"] == 16
            for metric in ("accuracy", "ece", "brier", "mean_tokens"):
                low, high = values["intervals"][metric]
                assert low <= values[metric] <= high
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert "rlsf" in (folder / "policy" / "README.md").read_text()
    assert {"recipe.yaml", "environment.json", "metrics.jsonl"} <= {path.name for path in folder.iterdir()}
    table = pq.read_table(folder / "traces" / "round-1" / "part-00000.parquet")
    assert table.schema.equals(TRACE_SCHEMA)
    assert table.num_rows == 8 * 6
    events = {json.loads(line)["event"] for line in (folder / "metrics.jsonl").read_text().splitlines()}
    assert {"sampling", "ranking", "training", "probe", "run"} <= events
    assert not list(folder.rglob("*.partial-*"))


def test_questions_that_are_learned_from_are_counted_and_warned_of(
    tmp_path: Path, small_recipe: Build, demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    learned = tmp_path / "learned.jsonl"
    questions, test = (path.read_text().splitlines() for path in demo_data)
    same = {**json.loads(test[0]), "id": "of another name"}
    learned.write_text("\n".join([*questions, json.dumps(same)]))
    run = Run(small_recipe(f"prompts.path={learned}"), RunFolder(tmp_path / "run"))
    assert run.learned_questions == 1
    preflight(run)
    assert "warning: 1 of 16 evaluation questions are among the prompts to learn from" in capsys.readouterr().err
    preflight(Run(small_recipe(), RunFolder(tmp_path / "other")))
    assert capsys.readouterr().err == ""


def test_elicited_answers_go_through_every_stage(tmp_path: Path, small_recipe: Build, open_run: Open) -> None:
    recipe = small_recipe("answer.format=elicited", "training.max_steps=3", name="rlsf")
    with open_run(recipe, tmp_path / "run") as run:
        summary = run_all(run)
    assert summary is not None
    assert 0 < summary["before"]["greedy"]["without_answer"] < 16
    events = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert [event["step"] for event in events if event["event"] == "probe"] == [0, 3]


def test_gold_answers_leave_the_weights_alone(
    tmp_path: Path, small_recipe: Build, open_run: Open, demo_data: tuple[Path, Path]
) -> None:
    labelled = [json.loads(line) for line in demo_data[1].read_text().splitlines()]
    gold = [row.pop("answer") for row in labelled]
    shuffled = random.Random(0).sample(gold, len(gold))
    assert shuffled != gold
    variants = {
        "removed": labelled,
        "true": [{**row, "answer": answer} for row, answer in zip(labelled, gold, strict=True)],
        "shuffled": [{**row, "answer": answer} for row, answer in zip(labelled, shuffled, strict=True)],
        "nonsense": [{**row, "answer": {"not": ["an", "answer"]}} for row in labelled],
    }
    policies, last_steps = {}, {}
    for name, rows in variants.items():
        prompts = tmp_path / f"{name}.jsonl"
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = small_recipe(f"prompts.path={prompts}", "prompts.columns.answer=null")
        learn(open_run(recipe, tmp_path / name))
        policies[name] = weights(tmp_path / name)
        last_steps[name] = weights(tmp_path / name, "checkpoints/round-1/checkpoint-6")
    for trained in (policies, last_steps):
        assert trained["true"] == trained["removed"] == trained["shuffled"] == trained["nonsense"]
    # The policy kept may be the one of step 0; the last step's weights have moved.
    start = weights(Path(small_recipe().model.path), ".")
    assert all(last_steps["true"][name] != tensor for name, tensor in start.items() if "embed" in name)
    assert start.keys() == last_steps["true"].keys()


def test_training_moves_the_weights(tmp_path: Path, small_recipe: Build, open_run: Open) -> None:
    for name, rate in (("low", "1e-5"), ("high", "1e-4")):
        learn(
            open_run(
                small_recipe(f"training.learning_rate={rate}", "training.selection.enabled=false"), tmp_path / name
            )
        )
    assert weights(tmp_path / "low") != weights(tmp_path / "high")


@pytest.mark.parametrize(
    "overrides",
    [("sampling.shard_prompts=24",), ("sampling.batch_tokens=400",), ("sampling.workers=2",)],
    ids=["shards", "batches", "processes"],
)
def test_traces_do_not_depend_on_how_the_work_is_split(
    tmp_path: Path, small_recipe: Build, open_run: Open, overrides: tuple[str, ...]
) -> None:
    sampled = ("sampling.continuation=sampled", "sampling.temperature=0.8")
    rows = []
    for name, extra in (("one", ()), ("other", overrides)):
        with open_run(small_recipe(*sampled, *extra), tmp_path / name) as run:
            sample_round(run, 1)
        rows.append(trace_rows(tmp_path / name))
    for one, other in zip(*rows, strict=True):
        for key in ("prompt_id", "index", "token_ids", "answer", "answer_start", "answer_end", "finish_reason"):
            assert one[key] == other[key]
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-4)


def test_stages_alone_make_what_a_run_makes(tmp_path: Path, small_recipe: Build, open_run: Open) -> None:
    with open_run(small_recipe(), tmp_path / "whole") as run:
        whole = run_all(run)
    for stage in (lambda run: sample_round(run, 1), lambda run: rank_stage(run, 1), lambda run: train_stage(run, 1)):
        with open_run(small_recipe(), tmp_path / "parts", resume=True) as run:
            stage(run)
    with open_run(small_recipe(), tmp_path / "parts", resume=True) as run:
        parts = evaluate_all(run)
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")
    assert whole == parts


def test_a_second_round_samples_with_the_first_policy(tmp_path: Path, small_recipe: Build, open_run: Open) -> None:
    recipe = small_recipe("training.rounds=2", "training.selection.enabled=false", "training.learning_rate=3e-4")
    with open_run(recipe, tmp_path / "run") as run:
        run_all(run)
    first, second = (
        pq.read_table(tmp_path / "run" / "traces" / f"round-{round_}" / "part-00000.parquet").column("logprob")
        for round_ in (1, 2)
    )
    assert first.to_pylist() != second.to_pylist()
    assert (tmp_path / "run" / "checkpoints" / "round-1" / "policy" / "model.safetensors").exists()
    assert (tmp_path / "run" / "policy" / "model.safetensors").exists()


def test_a_changed_input_is_never_silently_reused(tmp_path: Path, small_recipe: Build, open_run: Open) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(Path(small_recipe().prompts.path).read_text())
    recipe = small_recipe(f"prompts.path={prompts}")
    with open_run(recipe, tmp_path / "run") as run:
        sample_round(run, 1)
    prompts.write_text("\n".join(prompts.read_text().splitlines()[:-1]) + "\n")
    with open_run(recipe, tmp_path / "run", resume=True) as run:
        with pytest.raises(InputError, match=r"made from other inputs.*prompts"):
            sample_round(run, 1)
