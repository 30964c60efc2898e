"""Prompts that are read from their source each time: the same ones, however often and in whatever pieces."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.files import ListDigest, digest
from rlsf.prompts import Prompt, Prompts, load_prompts, loading, open_prompts, prompts_digest, tables
from rlsf.prompts.config import PromptConfig

RECORDS = [{"id": f"q{number}", "question": f"How many are {number}?"} for number in range(40)]
PROMPTS = [Prompt(record["id"], record["question"]) for record in RECORDS]


def jsonl(path: Path, records: list[dict[str, Any]] = RECORDS) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def as_csv(path: Path) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "question"])
        writer.writeheader()
        writer.writerows(RECORDS)


def parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(RECORDS), path, row_group_size=15)


def dataset(path: Path) -> None:
    from datasets import Dataset

    Dataset.from_list(RECORDS).save_to_disk(str(path))


def opened(path: Path, **fields: Any) -> Prompts:
    return open_prompts(PromptConfig(path=str(path), **fields), with_gold=False)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.jsonl", jsonl), ("a.csv", as_csv), ("a.parquet", parquet), ("folder", dataset)],
    ids=["jsonl", "csv", "parquet", "dataset"],
)
def test_every_pass_gives_the_same_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(tables, "_ROWS", 4)
    write(tmp_path / name)
    prompts = opened(tmp_path / name)
    assert len(prompts) == 40
    assert (
        list(prompts)
        == list(prompts)
        == PROMPTS
        == load_prompts(PromptConfig(path=str(tmp_path / name)), with_gold=False)
    )
    one, other = iter(prompts), iter(prompts)
    assert [next(one), next(one), next(other), next(one)] == [*PROMPTS[:2], PROMPTS[0], PROMPTS[2]]
    assert prompts.digest == prompts_digest(prompts) == prompts_digest(PROMPTS)


def test_parts_of_them_are_those_of_a_list(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl")
    prompts = opened(tmp_path / "a.jsonl", limit=10)
    for part in (slice(3), slice(2, 7, 2), slice(-3, None), slice(None, None, -1), slice(20, 30)):
        assert prompts[part] == PROMPTS[:10][part]
    assert [prompts[0], prompts[-1]] == [PROMPTS[0], PROMPTS[9]]
    with pytest.raises(IndexError):
        prompts[10]


def test_a_file_that_changes_is_not_read_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    jsonl(path)
    prompts = opened(path)
    jsonl(path, [*RECORDS, {"id": "new", "question": "?"}])
    with pytest.raises(InputError, match=r"a\.jsonl has changed since it was first read"):
        list(prompts)
    jsonl(path)
    os.utime(path, ns=(0, 0))
    prompts = opened(path)
    passing = iter(prompts)
    next(passing)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="has changed"):
        list(passing)


def test_ids_whose_keys_are_equal_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_key", lambda prompt_id: 7)
    jsonl(tmp_path / "a.jsonl")
    assert len(opened(tmp_path / "a.jsonl")) == 40
    jsonl(tmp_path / "b.jsonl", [*RECORDS[:3], RECORDS[1], RECORDS[0]])
    with pytest.raises(InputError, match=r"b\.jsonl:4: id 'q1' is taken by .*b\.jsonl:2: ids must be unique"):
        opened(tmp_path / "b.jsonl")


def test_the_first_of_several_repeated_ids_is_named(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [*RECORDS, RECORDS[30], RECORDS[2]])
    with pytest.raises(InputError, match=r"a\.jsonl:41: id 'q30' is taken by .*a\.jsonl:31: ids must be unique"):
        opened(tmp_path / "a.jsonl")


def test_a_column_first_wanted_late_is_read_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_ROWS", 4)
    table = pa.table({"question": [f"{n}?" for n in range(30)], "late": list(range(30))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    rows = list(tables.parquet_rows(tmp_path / "a.parquet"))
    assert [rows[index].record["late"] for index in (17, 18, 29, 3, 4)] == [17, 18, 29, 3, 4]


def test_a_csv_file_of_carriage_returns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,question\ra,"one\rline"\rb,two\r')
    assert list(opened(tmp_path / "a.csv")) == [Prompt("a", "one\rline"), Prompt("b", "two")]


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
        )
    )
)
def test_the_digest_of_a_list_in_pieces(elements: list[Any]) -> None:
    pieces = ListDigest()
    for number, element in enumerate(elements):
        assert pieces.hexdigest() == digest(elements[:number])
        pieces.add(element)
    assert pieces.hexdigest() == digest(elements)
