"""Bounds end to end on the bundled model: which traces are learned, and that shards and resumes change nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlsf.errors import InputError
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.introspection import EXAMPLES, examples_stage
from rlsf.pipeline.manifest import Manifest
from rlsf.pipeline.ranking import CONFIDENCES, PAIRS, rank_stage
from rlsf.pipeline.reuse import borrow_traces
from rlsf.pipeline.run import run_all, sample_round
from rlsf.pipeline.sampling import read_traces
from rlsf.recipes import Recipe
from rlsf.traces import Trace

Build = Callable[..., Recipe]
Open = Callable[..., Run]

SMALL = (
    "introspection.samples=[7]",
    "introspection.temperature=1.0",
    "introspection.training.max_steps=2",
    "introspection.training.batch_size=4",
    "introspection.training.save_every=2",
    "introspection.training.selection.enabled=true",
    "introspection.training.selection.prompts=4",
    "introspection.training.selection.every=2",
    "evaluation.modes=[greedy]",
)


@pytest.fixture
def majority_recipe(small_recipe: Build) -> Build:
    return lambda *overrides: small_recipe(*SMALL, *overrides, name="sft-majority")


def examples(folder: Path) -> list[dict]:
    return pq.read_table(folder / "examples" / "round-1" / EXAMPLES).to_pylist()


def expected(groups: Sequence[Sequence[Trace]]) -> tuple[list[str], Counter[str]]:
    """Ids of the traces to learn, by counting numbers, and the reasons of the prompts without any."""
    learned: list[str] = []
    reasons: Counter[str] = Counter()
    for traces in groups:
        counts = Counter(trace.answer.text for trace in traces if trace.answer).most_common()
        if not counts or (len(counts) > 1 and counts[0][1] == counts[1][1]):
            reasons["tied" if counts else "unanswered"] += 1
        else:
            found = [one for one in traces if one.answer and one.answer.text == counts[0][0] and not one.truncated]
            learned += [trace.trace_id for trace in found]
            reasons["unusable"] += not found
    return learned, reasons


def test_the_samples_of_the_majority_are_learned(tmp_path: Path, majority_recipe: Build, open_run: Open) -> None:
    folder = tmp_path / "run"
    with open_run(majority_recipe(), folder) as run:
        assert run_all(run) is not None
    groups = list(read_traces(folder / "traces/round-1/turn-1"))
    assert {len(traces) for traces in groups} == {7}
    learned, reasons = expected(groups)
    rows = examples(folder)
    assert [f"{row['prompt_id']}#{row['index']}" for row in rows] == learned
    assert {row["reward"] for row in rows} == {1.0}
    ids = {trace.trace_id: trace.token_ids.tolist() for traces in groups for trace in traces}
    assert [row["completion_ids"] for row in rows] == [ids[trace_id] for trace_id in learned]
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (counted,) = [event for event in events if event["event"] == "examples"]
    assert {reason: counted[reason] for reason in ("tied", "unanswered", "unusable")} == {
        reason: reasons[reason] for reason in ("tied", "unanswered", "unusable")
    }
    assert counted["tied"] > 0, "too few questions to meet a tie"
    assert {event["weight"] for event in events if event["event"] == "training"} == {1.0}
    # The probe asks for the majority's answers, of the held-out prompts that have one.
    probed = list(read_traces(folder / "traces/round-1/probe"))
    assert not {traces[0].prompt_id for traces in probed} & {row["prompt_id"] for row in rows}
    first = next(event for event in events if event["event"] == "probe")
    assert first["prompts"] == len(probed) - sum(expected(probed)[1][reason] for reason in ("tied", "unanswered"))


@pytest.mark.parametrize("shard", [3, 24])
def test_shards_change_no_example(tmp_path: Path, majority_recipe: Build, open_run: Open, shard: int) -> None:
    made: list[tuple[list[dict], Manifest]] = []
    for name, size in (("one", 8), ("other", shard)):
        with open_run(majority_recipe(f"sampling.shard_prompts={size}"), tmp_path / name) as run:
            manifest = examples_stage(run, 1, run.prompts[:6])
            assert examples_stage(run, 1, run.prompts[:6]) == manifest, "done already"
        made.append((examples(tmp_path / name), manifest))
    assert made[0][0] == made[1][0]
    assert made[0][1].counts == made[1][1].counts


def test_no_majority_at_all_is_said(tmp_path: Path, majority_recipe: Build, open_run: Open) -> None:
    with open_run(majority_recipe("introspection.samples=[1]", "sampling.max_new_tokens=2"), tmp_path / "run") as run:
        with pytest.raises(InputError, match=r"no trace has an answer|raise introspection\.samples"):
            examples_stage(run, 1, run.prompts[:2])


def test_pairs_by_chance_are_as_many(tmp_path: Path, small_recipe: Build, open_run: Open) -> None:
    folders = {name: tmp_path / name for name in ("rlsf", "random-pairs", "again", "surer")}
    with open_run(small_recipe(name="rlsf"), folders["rlsf"]) as run:
        sample_round(run, 1)
        by_confidence = rank_stage(run, 1)
    tables = {}
    for name, changes in (("random-pairs", ()), ("again", ()), ("surer", ("ranking.threshold=0.5",))):
        borrow_traces(RunFolder(folders["rlsf"]), RunFolder(folders[name]))
        with open_run(small_recipe(*changes, name="random-pairs"), folders[name], resume=True) as run:
            sample_round(run, 1)
            by_chance = rank_stage(run, 1)
            if name != "surer":
                assert by_chance.counts == by_confidence.counts
                assert by_chance.digest != by_confidence.digest
        tables[name] = pq.read_table(folders[name] / "preferences" / "round-1" / PAIRS)
    assert tables["random-pairs"].equals(tables["again"])
    assert tables["surer"].num_rows < tables["again"].num_rows
    kept, own = (pq.read_table(folders[name] / "preferences" / "round-1" / CONFIDENCES) for name in ("rlsf", "again"))
    assert kept.equals(own), "what is written of confidences is the signal's"
    confidence = {(row["prompt_id"], row["index"]): row["confidence"] for row in own.to_pylist()}

    def surer(row: dict) -> bool:
        sides = (row[f"{side}_trace_id"].rpartition("#") for side in ("chosen", "rejected"))
        chosen, rejected = (confidence[prompt_id, int(index)] for prompt_id, _, index in sides)
        return chosen > rejected

    rows = tables["again"].to_pylist()
    assert 0.3 < sum(map(surer, rows)) / len(rows) < 0.7
