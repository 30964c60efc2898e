"""What is sampled and ranked a piece at a time is what came of all at once, also where it was interrupted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_files import manifest, rows

from rlsf.confidence import get_signal
from rlsf.errors import InputError
from rlsf.pipeline import ranking, sampling, shards, table_file
from rlsf.pipeline.context import Run
from rlsf.pipeline.ranking import confidences, rank_stage
from rlsf.pipeline.run import sample_round
from rlsf.pipeline.sampling import ShardTask, make_shard, read_traces
from rlsf.pipeline.shards import ShardCounts, cut_prompts, prompts_of_shards, shard_path, shard_paths
from rlsf.pipeline.table_file import reading_rows, writing_rows
from rlsf.preferences import PREFERENCE_SCHEMA, rank
from rlsf.prompts import Prompt, Prompts, render
from rlsf.recipes import Recipe
from rlsf.sampling import SamplingConfig

Build = Callable[..., Recipe]
Open = Callable[..., Run]
FEW = ("sampling.branches=4", "sampling.max_new_tokens=32", "prompts.limit=20", "ranking.different_answers=false")
SCRIPT = Path(__file__).with_name("streaming_memory.py")


@pytest.fixture
def sampled(tmp_path: Path, small_recipe: Build, open_run: Open) -> Run:
    run = open_run(small_recipe(*FEW), tmp_path / "run")
    sample_round(run, 1)
    return run


def test_pairs_are_those_of_all_traces_ranked_at_once(sampled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_PAIRS_AT_A_TIME", 3)
    monkeypatch.setattr(table_file, "_ROWS", 4)
    with sampled as run:
        counts = rank_stage(run, 1).counts
        folder, signal = run.folder.preferences(1), get_signal(run.recipe.signal)
        groups = list(read_traces(run.folder.traces(1)))
        measured = [confidences(group, signal, run.tokenizer) for group in groups]
        texts = {prompt.id: render(prompt, run.tokenizer, run.recipe.render).text for prompt in run.prompts}
        pairs, report = rank(groups, measured, run.recipe.ranking, texts)
        assert isinstance(run.prompts, Prompts)
    written = pq.ParquetFile(folder / "pairs.parquet")
    assert written.metadata.num_row_groups > 1
    assert written.read().to_pylist() == pairs.to_pylist()
    assert counts["pairs"] == report.pairs == pairs.num_rows > 4
    assert counts["mean_gap"] == report.mean_gap
    kept = pq.read_table(folder / "confidences.parquet").to_pylist()
    assert [row["confidence"] for row in kept] == [value for values in measured for value in values]


def test_an_interrupted_run_goes_on_with_the_shards_that_are_missing(
    tmp_path: Path, sampled: Run, small_recipe: Build, open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def interrupted(task: ShardTask) -> ShardCounts:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(Path(task.path).name)
        return make_shard(task)

    monkeypatch.setattr(sampling, "make_shard", interrupted)
    with open_run(small_recipe(*FEW), tmp_path / "other") as run, pytest.raises(KeyboardInterrupt):
        sample_round(run, 1)
    assert made == ["part-00000.parquet"]

    asked: list[str] = []
    monkeypatch.setattr(sampling, "make_shard", make_shard)
    monkeypatch.setattr(sampling, "render", lambda prompt, *rest: asked.append(prompt.id) or render(prompt, *rest))
    monkeypatch.setattr(sampling, "table_to_traces", None)  # whoever reads a shard again fails
    with open_run(small_recipe(*FEW), tmp_path / "other", resume=True) as run:
        sample_round(run, 1)
        assert asked == [prompt.id for prompt in run.prompts[8:]]
    with sampled as whole:
        assert rows(tmp_path / "other") == rows(whole.folder.path)
        assert manifest(tmp_path / "other", "traces/round-1") == manifest(whole.folder.path, "traces/round-1")


def test_traces_of_other_prompts_are_not_ranked(
    tmp_path: Path, small_recipe: Build, open_run: Open, demo_data: tuple[Path, Path]
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    lines = demo_data[0].read_text().splitlines()[:4]
    prompts.write_text("\n".join(lines))
    recipe = small_recipe(*FEW, f"prompts.path={prompts}")
    with open_run(recipe, tmp_path / "run") as run:
        sample_round(run, 1)
    prompts.write_text("\n".join([*lines[:3], json.dumps({**json.loads(lines[3]), "question": "What else?"})]))
    with open_run(recipe, tmp_path / "run", resume=True) as run:
        with pytest.raises(InputError, match=r"prompts\.jsonl are no longer those that the traces in .* put them back"):
            rank_stage(run, 1)


@given(
    lengths=st.lists(st.integers(0, 3000), max_size=30),
    most=st.integers(1, 8),
    branches=st.integers(1, 64),
    tokens=st.integers(1, 100_000),
)
def test_shards_are_bounded_in_prompts_and_in_bytes(lengths: list[int], most: int, branches: int, tokens: int) -> None:
    prompts = [Prompt(str(number), "x" * length) for number, length in enumerate(lengths)]
    config = SamplingConfig(shard_prompts=most, branches=branches, max_new_tokens=tokens)
    cut = list(cut_prompts(iter(prompts), config))
    assert [prompt for shard in cut for prompt in shard] == prompts

    def size(shard: list[Prompt]) -> int:
        return sum(branches * shards.trace_bytes(tokens, len(prompt.question)) for prompt in shard)

    for number, shard in enumerate(cut):
        assert len(shard) == 1 or (len(shard) <= most and size(shard) <= shards.SHARD_BYTES)
        if number + 1 < len(cut):  # another prompt would have been too many
            assert len(shard) == most or size([*shard, cut[number + 1][0]]) > shards.SHARD_BYTES


def test_shards_with_long_numbers_keep_their_order(tmp_path: Path) -> None:
    for number in (100_000, 99_999, 3):
        shard_path(tmp_path, number).touch()
    assert shard_paths(tmp_path) == [shard_path(tmp_path, number) for number in (3, 99_999, 100_000)]


def test_shards_are_told_their_prompts_by_their_footers(sampled: Run) -> None:
    with sampled as run:
        folder = run.folder.traces(1)
        parts = [[prompt.id for prompt in shard] for _, shard in prompts_of_shards(shard_paths(folder), run.prompts)]
        assert [len(part) for part in parts] == [8, 8, 4]
        for path, part in zip(shard_paths(folder), parts, strict=True):
            table = pq.read_table(path)
            assert table["prompt_id"].unique().to_pylist() == part
            pq.write_table(table.replace_schema_metadata(None), path)  # as one that does not say
        again = [[prompt.id for prompt in shard] for _, shard in prompts_of_shards(shard_paths(folder), run.prompts)]
        assert again == parts


def test_a_table_that_is_interrupted_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    with pytest.raises(KeyboardInterrupt), writing_rows(path, PREFERENCE_SCHEMA) as write:
        write(PREFERENCE_SCHEMA.empty_table())
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with writing_rows(path, PREFERENCE_SCHEMA):
        pass
    assert list(reading_rows(path)) == []
    assert pq.read_table(path).schema.equals(PREFERENCE_SCHEMA)


@pytest.mark.slow
def test_memory_is_flat(tmp_path: Path) -> None:
    """Held at once, 7,500 more prompts and their traces take about 46 MB."""
    peaks = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "500", "8000"], capture_output=True, text=True, check=True
    ).stdout.split()
    few, many = map(int, peaks)
    assert many - few < 20 * 2**20
