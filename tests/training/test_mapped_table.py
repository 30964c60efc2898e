"""Tables on disk: what they hold, what they take of the memory, and what they leave behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_policy import CONTEXT, VOCABULARY, tiny_pairs

from rlsf.pipeline.training import _pairs_without
from rlsf.training.config import TrainingConfig
from rlsf.training.mapped_table import mapped_table
from rlsf.training.pairs import Pairs, prepare_pairs


def parts(rows: int = 50, of: int = 20) -> Iterator[pa.Table]:
    return (pa.table({"ids": [[part * rows + row] * 500 for row in range(rows)]}) for part in range(of))


def prepare(pairs: pa.Table, folder: Path | None, max_length: int | None = CONTEXT) -> Pairs:
    return prepare_pairs(pairs, TrainingConfig(), vocabulary_size=VOCABULARY, max_length=max_length, folder=folder)


def test_a_mapped_table_has_the_rows_and_takes_no_memory(tmp_path: Path) -> None:
    gc.collect()
    before = pa.total_allocated_bytes()
    table = mapped_table(parts(), pa.schema({"ids": pa.list_(pa.int64())}), tmp_path / "new")
    assert table.nbytes > 4e6
    assert pa.total_allocated_bytes() - before < 1e4
    assert [ids[0] for ids in table["ids"].to_pylist()] == list(range(1000))


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    def failing() -> Iterator[pa.Table]:
        yield from parts(of=1)
        raise RuntimeError("no more rows")

    schema = pa.schema({"ids": pa.list_(pa.int64())})
    kept = mapped_table(parts(), schema, tmp_path)
    with pytest.raises(RuntimeError, match="no more rows"):
        mapped_table(failing(), schema, tmp_path)
    assert not list(tmp_path.iterdir())
    assert kept["ids"][999].as_py()[0] == 999


@pytest.mark.parametrize("longest", [CONTEXT, 9])
def test_pairs_of_a_mapped_table_stay_on_disk(tmp_path: Path, longest: int) -> None:
    """Also where some are left out; pairs and digest are those of a table in memory."""
    pairs = pa.concat_tables([tiny_pairs(1000)] * 10).combine_chunks()
    in_memory = prepare(pairs, None, longest)
    batches = (pa.Table.from_batches([batch]) for batch in pairs.to_batches(333))
    mapped = mapped_table(batches, pairs.schema, tmp_path)
    gc.collect()
    before = pa.total_allocated_bytes()
    prepared = prepare(mapped, tmp_path, longest)
    assert pa.total_allocated_bytes() - before < 1e5 < mapped.nbytes
    assert (prepared.digest, prepared.too_long) == (in_memory.digest, in_memory.too_long)
    assert (prepared.too_long > 0) == (longest < CONTEXT)
    assert prepared.dataset.to_list() == in_memory.dataset.to_list()
    assert len(prepared.dataset[0]["prompt_ids"]) >= 2


def test_training_reads_the_pairs_of_the_prompts_that_are_not_held_out(tmp_path: Path) -> None:
    ids = [f"q{number % 7}" for number in range(1000)]
    pairs = tiny_pairs(1000).append_column("prompt_id", pa.array(ids)).append_column("prompt", pa.array(ids))
    pq.write_table(pairs, tmp_path / "pairs.parquet", row_group_size=300)
    found = _pairs_without(tmp_path / "pairs.parquet", {"q1": "7", "q4": ""}, tmp_path / "folder")
    others = ~np.isin(ids, ["q1", "q4"])
    assert found.equals(pairs.drop_columns(["prompt"]).filter(pa.array(others)))
