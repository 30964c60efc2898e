"""Accept or try again, end to end on the bundled model: what is written, what labels touch, and that a run resumes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from run_files import events, manifest, weights

from rlsf.acceptance.closed_form import loop_accuracy, rates_at
from rlsf.cli.app import execute
from rlsf.demo.settings import demo_settings
from rlsf.errors import InputError
from rlsf.models.reward_model import load_reward_model
from rlsf.pipeline.acceptance import acceptance_stage
from rlsf.pipeline.attempts import acceptance_config
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import evaluate_stage
from rlsf.pipeline.judged import AttemptReader, base_model, own_acceptance_model
from rlsf.pipeline.preflight import preflight
from rlsf.pipeline.records import RECORD_SCHEMA
from rlsf.pipeline.reward_modelling import split_pairs
from rlsf.pipeline.run import learn, run_all
from rlsf.pipeline.sampling import read_traces
from rlsf.prompts import render
from rlsf.recipes import Recipe, resolve
from rlsf.recipes.resolve import merge, parse_overrides
from rlsf.scoring.reward_scores import reward_scores

Build = Callable[..., Recipe]
Open = Callable[..., Run]

SMALL = {
    "sampling": {"branches": 4, "max_new_tokens": 48, "workers": 1, "shard_prompts": 8},
    "evaluation": {"bootstrap": 100, "modes": ["greedy", "retry"]},
    "acceptance": {
        "rounds": 3,
        "held_out": 0.5,
        "training": {"max_steps": 4, "batch_size": 4, "device_batch_size": None, "save_every": 2},
    },
}


@pytest.fixture(scope="module")
def drr(labelled_data: tuple[Path, Path]) -> Build:
    from rlsf.demo import MODEL_DIR

    questions, test = labelled_data
    data = {
        "model": {"path": str(MODEL_DIR), "device": "cpu"},
        "prompts": {"path": str(questions)},
        "evaluation_data": {"path": str(test)},
    }

    def build(*overrides: str) -> Recipe:
        return resolve("drr", None, merge(merge(merge(demo_settings("drr"), SMALL), data), parse_overrides(overrides)))

    return build


@pytest.fixture(scope="module")
def whole(drr: Build, open_run: Open, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    with open_run(drr(), folder) as run:
        assert run_all(run) is not None
    return folder


def records(folder: Path) -> list[dict[str, Any]]:
    table = pq.read_table(folder / "records" / "records.parquet")
    assert table.schema.equals(RECORD_SCHEMA)
    return table.to_pylist()


def acceptance(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "acceptance" / "acceptance.json").read_text())


def test_attempts_are_recorded_until_one_is_right(whole: Path) -> None:
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in records(whole):
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    assert len(by_prompt) == 24
    for rows in by_prompt.values():
        assert [row["round"] for row in rows] == list(range(1, len(rows) + 1))
        assert [len(row["rejected"]) for row in rows] == list(range(len(rows)))
        assert all(row["rejected"] == [other["text"] for other in rows[:place]] for place, row in enumerate(rows))
        assert not any(row["right"] for row in rows[:-1])
        assert rows[-1]["right"] or len(rows) == 3
        assert all(row["right"] == (row["answer"] == row["reference"]) for row in rows if row["answer"] is not None)
    counts = manifest(whole, "records")["counts"]
    assert counts["records"] == len(records(whole)) > 24
    assert counts["first_right"] == sum(rows[0]["right"] for rows in by_prompt.values())


def test_the_threshold_and_what_it_promises_are_those_of_held_out_questions(
    whole: Path, drr: Build, open_run: Open
) -> None:
    found = acceptance(whole)
    with open_run(drr(), whole, resume=True) as run:
        model = load_reward_model(own_acceptance_model(run))
    counts = manifest(whole, "checkpoints/acceptance")["counts"]
    assert found["by"] == "model"
    assert (counts["steps"], counts["threshold"]) == (4, found["scores"]["model"]["threshold"])
    learned = {row["prompt_id"] for row in records(whole)}
    held_out = found["scores"]["model"]["questions"]
    assert held_out == found["scores"]["confidence"]["questions"] == len(learned) // 2
    # Of the held-out records the promise can be made again.
    to_learn, kept_out = split_pairs(pq.read_table(whole / "records" / "records.parquet"), 0.5, seed=0)
    assert counts["examples"] == sum(answer is not None for answer in to_learn["answer"].to_pylist())
    rows = kept_out.to_pylist()
    logits = reward_scores(model, [row["token_ids"] for row in rows if row["answer"] is not None])
    scores = iter([1 / (1 + math.exp(-logit)) for logit in logits])
    given = [0.0 if row["answer"] is None else next(scores) for row in rows]
    first = [row["right"] for row in rows if row["round"] == 1]
    for name, values in (("model", given), ("confidence", [row["confidence"] for row in rows])):
        of = found["scores"][name]
        rates = rates_at(values, [row["right"] for row in rows], of["threshold"], sum(first) / len(first))
        assert (of["p"], of["a"], of["b"]) == (rates.right, rates.true, rates.false)
        assert of["predicted"] == pytest.approx(loop_accuracy(rates, 3))


def test_a_run_leaves_loops_and_an_untrained_policy(whole: Path) -> None:
    summary = json.loads((whole / "evaluation" / "summary.json").read_text())
    figures = json.loads((whole / "evaluation" / "before" / "retry.json").read_text())
    assert set(summary["before"]) == {"greedy", "retry"}
    assert summary["after"] is None
    assert not (whole / "policy").exists()
    assert (figures["questions"], figures["rounds"], figures["by"]) == (16, 3, "model")
    assert set(figures["loops"]) == {"model", "confidence"}
    loop = figures["loops"]["model"]
    assert loop["accuracy"] == pytest.approx(summary["before"]["retry"]["accuracy"])
    assert 1 <= loop["mean_rounds"] <= loop["calls"] <= 3
    cost = {name: figures["loops"][name]["cost"] for name in ("model", "confidence")}
    assert cost["model"]["loop"]["calls"] == loop["mean_rounds"]
    assert cost["model"]["loop"]["written"] == loop["mean_tokens"] <= cost["model"]["same_calls"]["written"]
    # What reads the attempts reads the questions, too, as often as they are asked, but none without an answer.
    of = cost["model"]["loop"]
    assert of["read"] / 2 < of["judged"] <= of["read"] + of["written"]
    assert cost["confidence"]["loop"]["judged"] == cost["confidence"]["same_calls"]["judged"] == 0
    assert weights(whole, "acceptance").keys() >= {"score.weight"}
    steps = [event["step"] for event in events(whole) if event["event"] == "acceptance"]
    assert steps == [1, 2, 3, 4]
    report = (whole / "report.html").read_text()
    assert report.count('id="retry"') == 1
    assert "this is a supervised method" in report
    assert "The policy was not trained" in report


def test_interrupted_between_and_in_the_stages(whole: Path, drr: Build, open_run: Open, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for step in (1, 3):
        with open_run(drr(), folder, resume=step > 1) as run:
            record = run.metrics.record
            run.metrics.record = lambda event, at=step, go=record: 1 / 0 if event.get("step") == at else go(event)  # type: ignore[method-assign]
            with pytest.raises(ZeroDivisionError):
                learn(run)
        assert not (folder / "acceptance" / "acceptance.json").exists()
    with open_run(drr(), folder, resume=True) as run:
        learn(run)
        evaluate_stage(run, "before", run.recipe.model)
    assert records(folder) == records(whole)
    assert weights(folder, "acceptance") == weights(whole, "acceptance")
    assert acceptance(folder) == acceptance(whole)
    assert json.loads((folder / "evaluation/before/retry.json").read_text()) == json.loads(
        (whole / "evaluation/before/retry.json").read_text()
    )


def test_gold_answers_are_asked_for_before_any_work(drr: Build, demo_data: tuple[Path, Path], tmp_path: Path) -> None:
    from rlsf.pipeline.folder import RunFolder

    unlabelled = f"prompts.path={demo_data[0]}"
    with pytest.raises(InputError, match=r"^recipe drr learns from gold answers \(acceptance\.labels=gold\): "):
        preflight(Run(drr(unlabelled), RunFolder(tmp_path / "run")))
    assert not (tmp_path / "run").exists()
    assert not drr("acceptance.labels=majority").needs_labels


def test_without_labels_and_without_training(
    drr: Build, open_run: Open, demo_data: tuple[Path, Path], tmp_path: Path
) -> None:
    """The answer of most samples takes the place of the gold one, and the signal's confidence that of a model."""
    label_free = ("acceptance.labels=majority", "acceptance.votes=3", "acceptance.by=confidence")
    with open_run(drr(f"prompts.path={demo_data[0]}", *label_free), tmp_path / "run") as run:
        assert {prompt.gold for prompt in run.prompts} == {None}
        assert run_all(run) is not None
    found = acceptance(tmp_path / "run")
    assert (found["by"], set(found["scores"])) == ("confidence", {"confidence"})
    assert not (tmp_path / "run" / "acceptance" / "model.safetensors").exists()
    votes = {traces[0].prompt_id: traces for traces in read_traces(tmp_path / "run/traces/round-1/votes")}
    assert {len(traces) for traces in votes.values()} == {3}
    for row in records(tmp_path / "run"):
        said = {trace.answer.text for trace in votes[row["prompt_id"]] if trace.answer}
        assert row["reference"] in said
    assert "It learned without labels" in (tmp_path / "run" / "report.html").read_text()


def test_dialogues_go_their_own_ways_from_one_first_attempt(drr: Build, open_run: Open, tmp_path: Path) -> None:
    said = ("acceptance.retry=dialogue", "acceptance.rejection=Wrong. {question}", "acceptance.threshold=1")
    with open_run(drr(*said, "acceptance.abstain=true", "evaluation_data.limit=6"), tmp_path / "run") as run:
        summary = run_all(run)
        window, rejection = acceptance_config(run).window, acceptance_config(run).rejection
        assert (window, rejection) == (1, "Wrong. {question}")
        questions = {question.id: question for question in run.questions}
        first = {traces[0].prompt_id: traces[0] for traces in read_traces(tmp_path / "run/evaluation/before/attempts")}
        for (trace,) in read_traces(tmp_path / "run/evaluation/before/dialogues/model/attempt-2"):
            asked = run.tokenizer.decode(trace.prompt_token_ids)
            question = questions[trace.prompt_id]
            assert asked.startswith(render(question, run.tokenizer, run.recipe.render).text)
            assert first[trace.prompt_id].text.strip() in asked
            assert f"Wrong. {question.question}" in asked
    assert summary is not None
    figures = json.loads((tmp_path / "run/evaluation/before/retry.json").read_text())
    loop = figures["loops"]["model"]
    # Nothing has a score of 1: every question takes all rounds, and none is answered.
    assert (loop["threshold"], loop["mean_rounds"], loop["answered"], loop["accuracy"]) == (1.0, 3.0, 0.0, 0.0)
    assert figures["loops"]["confidence"]["threshold"] < 1
    assert summary["before"]["retry"]["without_answer"] == 6


def test_another_model_reads_the_texts_by_its_own_tokenizer(whole: Path, drr: Build, open_run: Open) -> None:
    from rlsf.demo import MODEL_DIR

    with open_run(drr(), whole, resume=True) as run:
        own, prompts, tokenizer = AttemptReader(run), {prompt.id: prompt for prompt in run.prompts}, run.tokenizer
        traces = [group[0] for group in read_traces(whole / "traces" / "round-1" / "attempt-1")]
        other = Run(drr(f"acceptance.model.path={MODEL_DIR}"), run.folder)
        assert base_model(other).path == str(MODEL_DIR)
        reads = AttemptReader(other)
    for trace in traces:
        prompt = prompts[trace.prompt_id]
        sampled, read = own(prompt, trace), reads(prompt, trace)
        asked = render(prompt, tokenizer, run.recipe.render).token_ids
        assert sampled == [*asked, *trace.token_ids.tolist()]
        assert tokenizer.decode(read, skip_special_tokens=True) == tokenizer.decode(sampled, skip_special_tokens=True)
        assert (read[-1] == tokenizer.eos_token_id) == (not trace.truncated)


def test_the_stage_alone_and_refusals(
    whole: Path, drr: Build, capsys: pytest.CaptureFixture[str], open_run: Open, tmp_path: Path
) -> None:
    assert execute(["train", str(whole)]) == 0
    assert "acceptance from a score of" in capsys.readouterr().out
    assert execute(["rank", str(whole)]) == 2
    assert "samples round by round, and ranks nothing" in capsys.readouterr().err
    with open_run(drr(), tmp_path / "new") as run:
        with pytest.raises(InputError, match=r"stage 'acceptance' is not finished in .*: run `rlsf run --resume"):
            evaluate_stage(run, "before", run.recipe.model)
    with open_run(drr("acceptance.rounds=2"), tmp_path / "few") as run:
        run.prompts  # noqa: B018
        run.__dict__["prompts"] = run.prompts[:2]
        with pytest.raises(InputError, match=r"some of each; give more prompts|there is nothing to tell apart"):
            acceptance_stage(run)


def test_records_of_one_kind_are_met_before_any_training(
    drr: Build, open_run: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every attempt is wrong by answers that nothing equals."""
    from rlsf.pipeline import acceptance as stage

    monkeypatch.setattr("rlsf.pipeline.records.References.right", lambda *_: False)
    monkeypatch.setattr(stage, "trained", lambda *_: pytest.fail("trained for nothing"))
    with open_run(drr("acceptance.rounds=2", "prompts.limit=8"), tmp_path / "run") as run:
        with pytest.raises(InputError, match=r"^of 8 attempts kept out 0 are right and 8 wrong: rates of acceptance"):
            acceptance_stage(run)


def test_sections_that_do_not_fit_together() -> None:
    for overrides, message in (
        (["online.algorithm=grpo"], "acceptance leaves the policy as it is: set online to null"),
        (["acceptance=null"], r"evaluation\.modes: retry needs acceptance"),
        (["acceptance.rejection=' '"], "acceptance.rejection is empty"),
        (["acceptance.rounds=1"], "greater than or equal to 2"),
        (["acceptance.training.batch_size=6"], r"is not a multiple of acceptance\.training\.device_batch_size=4"),
    ):
        with pytest.raises(InputError, match=message):
            resolve("drr", None, parse_overrides(overrides))
