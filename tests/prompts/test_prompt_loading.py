from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetNotFoundError
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.prompts import Prompt, has_gold, load_prompts
from rlsf.prompts.config import ColumnConfig, PromptConfig
from rlsf.prompts.files import json_rows

RECORDS = [
    {"id": "one", "question": "How many?\nTell me, please.", "answer": "1"},
    {"id": "two", "question": 'Say "é"; 1, 2\u2028or 3', "answer": "2"},
]
PROMPTS = [Prompt(record["id"], record["question"], (), record["answer"]) for record in RECORDS]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """``records`` in the format that the suffix of ``path`` names, or as a ``datasets`` folder."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(records, indent=2), "utf-8")
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(records[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        Dataset.from_list(records).save_to_disk(path)
    return path


def load(path: Path, *, with_gold: bool = True, **fields: Any) -> list[Prompt]:
    return load_prompts(PromptConfig(path=str(path), **fields), with_gold=with_gold)


EVERY_FORMAT = pytest.mark.parametrize(
    "name", ["data.jsonl", "data.json", "data.csv", "data.tsv", "data.parquet", "folder"]
)


@EVERY_FORMAT
def test_every_format_gives_the_same_prompts(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, RECORDS)
    assert load(path) == PROMPTS
    assert load(path, with_gold=False) == [prompt.without_gold() for prompt in PROMPTS]
    assert load(path, limit=1) == PROMPTS[:1]


@EVERY_FORMAT
def test_gold_missing_or_malformed_makes_no_difference_without_gold(tmp_path: Path, name: str) -> None:
    questions = [{key: record[key] for key in ("id", "question")} for record in RECORDS]
    nonsense = [record | {"answer": "\n####"} for record in RECORDS]
    expected = [prompt.without_gold() for prompt in PROMPTS]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for preset in (None, "gsm8k"):
        fields = {"preset": preset}
        for folder, records in (("a", questions), ("b", nonsense)):
            path = write(tmp_path / folder / f"{preset}-{name}", records)
            assert load(path, with_gold=False, **fields) == expected
    with pytest.raises(InputError, match="no column"):
        load(tmp_path / "a" / f"gsm8k-{name}", preset="gsm8k")
    with pytest.raises(InputError, match=r"the gold answer '' is not a number \(in 'answer'\)"):
        load(tmp_path / "b" / f"gsm8k-{name}", preset="gsm8k")


def test_a_damaged_gold_column_of_parquet_is_not_even_read(tmp_path: Path) -> None:
    path = write(tmp_path / "data.parquet", RECORDS)
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(2)
    assert chunk.path_in_schema == "answer"
    content = bytearray(path.read_bytes())
    start = min(offset for offset in (chunk.dictionary_page_offset, chunk.data_page_offset) if offset)
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    assert load(path, with_gold=False) == [prompt.without_gold() for prompt in PROMPTS]
    assert has_gold(PromptConfig(path=str(path)))
    with pytest.raises(InputError, match=r"data.parquet: column 'answer' is damaged"):
        load(path)


def test_has_gold_looks_for_the_field_only(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.jsonl", [{"question": "?"}])
    assert not has_gold(PromptConfig(path=str(bare)))
    labelled = write(tmp_path / "labelled.jsonl", [{"question": "?", "target": None}])
    assert has_gold(PromptConfig(path=str(labelled)))
    assert not has_gold(PromptConfig(path=str(labelled), columns=ColumnConfig(answer="solution")))


def test_customary_names_and_row_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", [{"problem": " a ", "gold": 1.0}, {"problem": "b", "gold": 2}])
    assert load(path) == [Prompt("1", "a", (), "1"), Prompt("2", "b", (), "2")]


def test_columns_may_be_nested(tmp_path: Path) -> None:
    records = [{"meta": {"key": 7}, "turns": [{"content": "Which?"}], "options": ["x", "y"], "solutions": ["B", "A"]}]
    columns = ColumnConfig(id="meta.key", question="turns[0].content", answer="solutions[0]")
    for name in ("data.jsonl", "data.json", "data.parquet", "folder"):
        assert load(write(tmp_path / name, records), columns=columns) == [Prompt("7", "Which?", ("x", "y"), "B")]


def test_a_local_dataset_with_splits(tmp_path: Path) -> None:
    train, test = Dataset.from_list(RECORDS[:1]), Dataset.from_list(RECORDS[1:])
    DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "both")
    assert load(tmp_path / "both", split="test") == PROMPTS[1:]
    with pytest.raises(InputError, match=r"has the splits train, test: choose one with prompts.split"):
        load(tmp_path / "both")
    with pytest.raises(InputError, match=r"no split 'tset' \(did you mean 'test'"):
        load(tmp_path / "both", split="tset")
    DatasetDict({"only": test}).save_to_disk(tmp_path / "one")
    assert load(tmp_path / "one") == PROMPTS[1:]


def test_a_folder_of_data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "repository"
    folder.mkdir()
    write(folder / "train.jsonl", RECORDS[:1])
    write(folder / "test.jsonl", RECORDS[1:])
    assert load(folder, split="test") == PROMPTS[1:]
    with pytest.raises(InputError, match=r"choose one with prompts.split"):
        load(folder)
    with pytest.raises(InputError, match=r"cannot load the dataset .*split.*validation"):
        load(folder, split="validation")


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError) as caught:
        load_prompts(PromptConfig(path="nobody/nothing"), with_gold=False)
    assert str(caught.value).startswith("'nobody/nothing' is not a local file or folder, and the hub could not be")
    assert "\n" not in str(caught.value)


def test_a_dataset_that_the_hub_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str, *_: object, **__: object) -> None:
        raise DatasetNotFoundError(f"Dataset '{name}' doesn't exist on the Hub or cannot be accessed.")

    monkeypatch.setattr("datasets.load_dataset", unknown)
    with pytest.raises(InputError, match=r"^no such dataset: 'nobody/nothing' is neither a local file or folder nor"):
        load_prompts(PromptConfig(path="nobody/nothing"), with_gold=False)


def test_the_hub_is_asked_for_what_the_preset_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(name: str, subset: str | None, *, split: str | None) -> Dataset:
        asked.append((name, subset, split))
        return Dataset.from_list([{"question": "?", "answer": "#### 1"}])

    monkeypatch.setattr("datasets.load_dataset", answer)
    assert load_prompts(PromptConfig(preset="gsm8k"), with_gold=True) == [Prompt("1", "?", (), "1")]
    load_prompts(PromptConfig(preset="gsm8k"), with_gold=False)
    assert asked == [("openai/gsm8k", "main", "test"), ("openai/gsm8k", "main", "train")]


def test_blank_lines_and_a_byte_order_mark_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('\ufeff\n{"question": "a"}\r\n\n{"question": "b"}\n\n', "utf-8")
    assert load(path, with_gold=False) == [Prompt("1", "a"), Prompt("2", "b")]
    table = tmp_path / "data.csv"
    table.write_text('\ufeffquestion\r\n"a\nb"\r\n\r\nc\r\n', "utf-8", newline="")
    assert load(table, with_gold=False) == [Prompt("1", "a\nb"), Prompt("2", "c")]


def test_json_lines_in_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    path.write_text('{"question": "a"}\n{"question": "b"}\n')
    assert [prompt.question for prompt in load(path, with_gold=False)] == ["a", "b"]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(questions=st.lists(texts, min_size=1, max_size=5))
def test_any_text_survives_json_lines_and_arrays(
    questions: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    records = [{"question": question} for question in questions]
    for name in ("data.jsonl", "data.json", "data.parquet"):
        loaded = load(write(folder / name, records), with_gold=False)
        assert [prompt.question for prompt in loaded] == [question.strip() for question in questions]


def test_gzipped_lines_are_unpacked_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"question": "one?"}\n\n{"question": "two?"}\n'))
    assert [row.record["question"] for row in json_rows(path)] == ["one?", "two?"]
    assert [row.place for row in json_rows(path)] == [f"{path}:1", f"{path}:3"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(InputError, match=r"questions\.jsonl\.gz: not a whole gzip file"):
        list(json_rows(path))
    path.write_bytes(b"{}")
    with pytest.raises(InputError, match=r"not a whole gzip file \(Not a gzipped file"):
        list(json_rows(path))


def test_a_text_file_holds_a_question_a_line(tmp_path: Path) -> None:
    (tmp_path / "questions.txt").write_bytes("\ufeffHow many?\r\n\n  1 + 1\u2028= ?  \n".encode())
    found = load(tmp_path / "questions.txt", with_gold=False)
    assert found == [Prompt("1", "How many?"), Prompt("2", "1 + 1\u2028= ?")]
