"""Each complaint is one line with the place and the remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlsf.errors import InputError
from rlsf.prompts import load_prompts
from rlsf.prompts.config import ColumnConfig, PromptConfig


def complaint(path: Path, content: str | bytes | None = None, *, with_gold: bool = False, **fields: Any) -> str:
    """The message about a file of this content, which must be a single line."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        load_prompts(PromptConfig(path=str(path), **fields), with_gold=with_gold)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


OK = '{"id": "a", "question": "?", "answer": "1"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", OK + '{"question": \n', "d.jsonl:2: not valid JSON (Expecting value): each line must be"),
        ("d.jsonl", OK + "\n7\n", "d.jsonl:3: expected a JSON object, found int"),
        ("d.jsonl", OK + f'{{"question": {"9" * 5000}}}\n', "d.jsonl:2: not valid JSON (Exceeds the limit"),
        ("d.jsonl", OK + '{"question": " ", "id": "b"}', "d.jsonl:2: the question in 'question' is empty: fill it"),
        ("d.jsonl", OK + '{"question": null, "id": "b"}', "d.jsonl:2: the question in 'question' is empty"),
        ("d.jsonl", OK + '{"question": 5, "id": "b"}', "d.jsonl:2: the question in 'question' must be text, found int"),
        ("d.jsonl", OK + '{"question": "\\ud800", "id": "b"}', "d.jsonl:2: 'question' holds half a surrogate pair"),
        (
            "d.jsonl",
            OK + '{"qestion": "?", "id": "b"}',
            "d.jsonl:2: no column 'question' (did you mean 'qestion'?); av",
        ),
        ("d.jsonl", OK + '{"question": "?", "id": "a"}', "d.jsonl:2: id 'a' is taken by d.jsonl:1: ids must be unique"),
        (
            "d.jsonl",
            OK + '{"question": "?", "id": ""}',
            "d.jsonl:2: the id in 'id' must be text or an integer, found ''",
        ),
        ("d.jsonl", OK + '{"question": "?"}', "d.jsonl:2: no column 'id'; available: question"),
        ("d.jsonl", '{"question": {"stem": "?"}}', "name a field inside it, question.stem for instance"),
        ("d.jsonl", '{"prompt": [{"role": "user"}]}', "name a field inside it, prompt[0] for instance"),
        ("d.jsonl", '{"question": "?", "choices": ["x"]}', "d.jsonl:1: 1 choices: give from 2 to 26 (in 'choices')"),
        ("d.jsonl", "", "d.jsonl: the file is empty"),
        ("d.jsonl", " \n\n", "d.jsonl: the file is empty"),
        ("d.jsonl", OK.encode() + b'{"question": "caf\xe9"}', "d.jsonl:2: not UTF-8 (byte 61): save the file as UTF-8"),
        ("d.json", "[]", "d.json: no questions in it"),
        ("d.json", '[\n{"question": "?"},\n\n{"question": }]', "d.json:4: not valid JSON (Expecting value)"),
        ("d.json", '[{"question": "?"},\n7]', "d.json:2: expected a JSON object"),
        ("d.json", '[{"question": "?"}\n{"question": "?"}]', "d.json:2: not valid JSON (expected ',' or ']'"),
        ("d.json", '[{"question": "?"},\n]', "d.json:2: not valid JSON (expected ',' or ']' and no comma"),
        ("d.json", '[{"question": "?"}', "d.json:1: not valid JSON"),
        ("d.json", '[{"question": "?", "n": \n' + "9" * 5000 + "}]", "d.json:1: not valid JSON (Exceeds"),
        ("d.csv", "id,question\n1,?\n2,a,b\n", "d.csv:3: 3 cells where the header has 2: put cells that hold ','"),
        ("d.csv", 'id,question\n1,"?\n?"\n2\n', "d.csv:4: 1 cells where the header has 2"),
        ("d.csv", 'id,question\n1,"?\n', "d.csv:2: not valid CSV (unexpected end of data)"),
        ("d.csv", "id,question,id\n1,?,2\n", "d.csv:1: two columns are called 'id': rename one"),
        ("d.csv", "id,question\n", "d.csv: no questions in it"),
        ("d.csv", "id,query\n1,?\n", "d.csv:2: no column question, prompt, problem, input or text"),
        ("d.csv", "question,choices\n?,red\n", "d.csv:2: the choices are not a JSON array"),
        (
            "d.csv",
            "id;question\n1;?\n",
            "d.csv:1: one column, 'id;question': its cells seem to be separated by ';', not",
        ),
        ("d.tsv", "id,question\n1,?\n", "d.tsv:1: one column, 'id,question': its cells seem to be separated by ','"),
        ("d.parquet", "PAR1 but not really", "d.parquet: not a Parquet file ("),
        ("d.parquet", "", "d.parquet: not a Parquet file ("),
        ("d.md", "?", "d.md: unknown suffix '.md': use .jsonl, "),
        ("d.txt", " \n\n", "d.txt: no questions in it"),
        ("data", "?", "data: unknown suffix '': use .jsonl, "),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    assert message in complaint(tmp_path / name, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "?"}', "d.jsonl:1: no column answer, gold, target or answerKey: evaluation needs the gold"),
        (OK + '{"id": "b", "question": "?"}', "d.jsonl:2: no column 'answer'; available: id, question"),
        (OK + '{"id": "b", "question": "?", "answer": null}', "d.jsonl:2: the gold answer in 'answer' is empty"),
        (OK + '{"id": "b", "question": "?", "answer": ""}', "d.jsonl:2: the gold answer is empty (in 'answer')"),
        (OK + '{"id": "b", "question": "?", "answer": [1]}', "d.jsonl:2: 'answer' is not text: name a field inside it"),
        (
            '{"question": "?", "choices": ["x", "y"], "answer": "C"}',
            "d.jsonl:1: the gold answer 'C' names none of the 2",
        ),
    ],
)
def test_bad_gold_answers(tmp_path: Path, content: str, message: str) -> None:
    assert message in complaint(tmp_path / "d.jsonl", content, with_gold=True)


def test_columns_are_named_in_the_section_that_the_questions_belong_to(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    assert "with prompts.columns.question; available: q" in complaint(path, '{"q": "?"}')
    assert "with evaluation_data.columns.question; available: q" in complaint(path, '{"q": "?"}', with_gold=True)
    assert "with evaluation_data.columns.answer; " in complaint(path, '{"question": "?", "a": 1}', with_gold=True)


def test_errors_beyond_the_limit_are_not_met(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(OK + "broken")
    assert len(load_prompts(PromptConfig(path=str(path), limit=1), with_gold=True)) == 1


def test_a_column_that_was_named_but_is_not_there(tmp_path: Path) -> None:
    for columns, path in ((ColumnConfig(question="stem"), "stem"), (ColumnConfig(id="uid"), "uid")):
        message = complaint(tmp_path / "d.jsonl", OK, columns=columns)
        assert message.startswith(f"d.jsonl:1: no column '{path}'")
        assert message.endswith("available: id, question, answer")


def test_rows_of_tables_are_counted_from_one(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["?", None]}), tmp_path / "d.parquet")
    assert complaint(tmp_path / "d.parquet") == (
        "d.parquet: row 2: the question in 'question' is empty: fill it in or remove the line"
    )
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), tmp_path / "empty.parquet")
    assert complaint(tmp_path / "empty.parquet") == "empty.parquet: no rows"


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text(OK)
    assert complaint(tmp_path / "question.jsonl") == "no such file: question.jsonl (did you mean 'questions.jsonl'?)"
    assert re.search(r"there is no folder .*nowhere", complaint(tmp_path / "nowhere" / "d.csv"))


def test_nothing_given() -> None:
    with pytest.raises(InputError, match="no prompts: give --prompts"):
        load_prompts(PromptConfig(), with_gold=False)


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "d.jsonl").write_text(OK)
    # The tests may run as a user whom no permission stops.
    monkeypatch.setattr(Path, "open", refuse)
    assert complaint(tmp_path / "d.jsonl") == "d.jsonl: not allowed to read this file: mend its permissions"
