"""Presets on the shapes of the hub, on those of the original files, and on real files where they are at hand."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlsf.errors import InputError
from rlsf.prompts import PRESETS, Prompt, load_prompts, prompt_source, with_defaults
from rlsf.prompts.config import ColumnConfig, PromptConfig

REPOSITORY = Path(__file__).parents[2]
SHARED_DATA = Path(os.environ.get("RLSF_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))

#: preset, a record in one of its published forms, the prompt it stands for
SHAPES: list[tuple[str, dict[str, Any], Prompt]] = [
    ("gsm8k", {"question": "Q?", "answer": "so <<2*3=6>>6\n#### 6,000"}, Prompt("1", "Q?", (), "6000")),
    ("multiarith", {"question": " Q? ", "final_ans": "39"}, Prompt("1", "Q?", (), "39")),
    ("multiarith", {"iIndex": 0, "sQuestion": " Q? ", "lSolutions": [39.0]}, Prompt("0", "Q?", (), "39")),
    (
        "svamp",
        {"ID": "chal-1", "Body": "Each pack costs 76. ", "Question": "How much?", "Answer": "51.0", "Type": "x"},
        Prompt("chal-1", "Each pack costs 76. How much?", (), "51"),
    ),
    (
        "aqua",
        {"question": "Q?", "options": ["A)21", "B)21.5", "C)22"], "rationale": "...", "correct": "C"},
        Prompt("1", "Q?", ("21", "21.5", "22"), "C"),
    ),
    (
        "commonsense_qa",
        {"id": "x", "question": "Q?", "choices": {"label": ["A", "B"], "text": ["bank", "mall"]}, "answerKey": "B"},
        Prompt("x", "Q?", ("bank", "mall"), "B"),
    ),
    (
        "commonsense_qa",
        {
            "id": "x",
            "question": {"stem": "Q?", "choices": [{"label": "A", "text": "bank"}, {"label": "B", "text": "mall"}]},
            "answerKey": "B",
        },
        Prompt("x", "Q?", ("bank", "mall"), "B"),
    ),
    (
        "arc",
        {"id": "x", "question": "Q?", "choices": {"text": ["ice", "fog"], "label": ["1", "2"]}, "answerKey": "2"},
        Prompt("x", "Q?", ("ice", "fog"), "B"),
    ),
    (
        "arc",
        {
            "id": "x",
            "question": {"stem": "Q?", "choices": [{"text": "ice", "label": "A"}, {"text": "fog", "label": "B"}]},
            "answerKey": "A",
        },
        Prompt("x", "Q?", ("ice", "fog"), "A"),
    ),
    (
        "mmlu",
        {"question": "Q?", "subject": "anatomy", "choices": ["0", "4", "2", "6"], "answer": 1},
        Prompt("1", "Q?", ("0", "4", "2", "6"), "B"),
    ),
    (
        "math500",
        {
            "problem": "Q?",
            "solution": r"\boxed{\frac12}",
            "answer": r"\frac12",
            "level": 3,
            "unique_id": "test/a/1.json",
        },
        Prompt("test/a/1.json", "Q?", (), r"\frac12"),
    ),
]


@pytest.mark.parametrize(("preset", "record", "expected"), SHAPES)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_every_published_form(
    tmp_path: Path, preset: str, record: dict[str, Any], expected: Prompt, suffix: str
) -> None:
    path = tmp_path / f"data{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([record]), path)
    else:
        path.write_text(json.dumps([record] if suffix == ".json" else record))
    config = PromptConfig(preset=preset, path=str(path))
    assert load_prompts(config, with_gold=True) == [expected]
    assert load_prompts(config, with_gold=False) == [expected.without_gold()]


def test_every_preset_is_covered() -> None:
    assert {preset for preset, _, _ in SHAPES} == set(PRESETS)


def test_an_index_in_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "mmlu.csv").write_text('question,choices,answer\nQ?,"[""0"", ""4"", ""2""]",2\n')
    config = PromptConfig(preset="mmlu", path=str(tmp_path / "mmlu.csv"))
    assert load_prompts(config, with_gold=True) == [Prompt("1", "Q?", ("0", "4", "2"), "C")]


def test_columns_of_the_user_win_over_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"problem": "Q?", "worked": "#### 1", "key": 9}')
    columns = ColumnConfig(question="problem", answer="worked", id="key")
    config = PromptConfig(preset="gsm8k", path=str(path), columns=columns)
    assert load_prompts(config, with_gold=True) == [Prompt("9", "Q?", (), "1")]


def test_a_file_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"Question": "Q?"}')
    with pytest.raises(InputError, match=r"data.jsonl:1: no column 'question' \(did you mean 'Question'"):
        load_prompts(PromptConfig(preset="gsm8k", path=str(path)), with_gold=False)


def test_an_unknown_preset() -> None:
    for config in (PromptConfig(preset="gsm9k"), PromptConfig(preset="gsm9k", path="data.jsonl")):
        with pytest.raises(InputError, match=r"unknown preset 'gsm9k' \(did you mean 'gsm8k'\?\); available: gsm8k, "):
            load_prompts(config, with_gold=False)


def test_defaults_of_a_preset_are_written_out() -> None:
    assert with_defaults(PromptConfig(preset="gsm8k"), evaluation=False) == PromptConfig(
        preset="gsm8k", path="openai/gsm8k", subset="main", split="train"
    )
    assert with_defaults(PromptConfig(preset="gsm8k"), evaluation=True).split == "test"
    chosen = PromptConfig(preset="arc", subset="ARC-Easy", split="validation")
    assert with_defaults(chosen, evaluation=True) == chosen.model_copy(update={"path": "allenai/ai2_arc"})
    once = with_defaults(PromptConfig(preset="arc"), evaluation=False)
    assert with_defaults(once, evaluation=True) == once, "what is written out stays"
    local = PromptConfig(preset="gsm8k", path="my.jsonl")
    assert with_defaults(local, evaluation=True) == local
    assert with_defaults(PromptConfig(path="my.jsonl"), evaluation=True) == PromptConfig(path="my.jsonl")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gsm8k", PromptConfig(preset="gsm8k")),
        ("gsm8k:data.jsonl", PromptConfig(preset="gsm8k", path="data.jsonl")),
        ("arc:owner/arc-copy", PromptConfig(preset="arc", path="owner/arc-copy")),
        (" data.jsonl ", PromptConfig(path="data.jsonl")),
        ("./gsm8k", PromptConfig(path="./gsm8k")),
        ("odd:data.jsonl", PromptConfig(path="odd:data.jsonl")),
        ("owner/name", PromptConfig(path="owner/name")),
        ("owner/name-v1.5", PromptConfig(path="owner/name-v1.5")),
    ],
)
def test_what_a_user_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: PromptConfig) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data.jsonl", "gsm8k", "odd:data.jsonl"):
        (tmp_path / name).touch()
    assert prompt_source(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dta.jsonl", r"^no such file: dta.jsonl \(did you mean 'data.jsonl'\?\)$"),
        ("./data", r"^no such file: ./data \(did you mean 'data.jsonl'"),
        ("/nowhere/data.csv", r"^no such file: /nowhere/data.csv \(there is no folder /nowhere\)$"),
        ("owner/data.jsonl", r"^no such file: owner/data.jsonl \(there is no folder owner\)$"),
        ("a/b/c", r"^no such file: a/b/c"),
        ("gsm8", r"^no such file: gsm8 \(did you mean 'gsm8k'"),
        ("gsm9k:data.jsonl", r"^unknown preset 'gsm9k' \(did you mean 'gsm8k'"),
        ("gsm8k:dta.jsonl", r"^no such file: dta.jsonl \(did you mean 'data.jsonl'"),
        ("", r"^no prompts: give --prompts"),
    ],
)
def test_what_a_user_mistypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.jsonl").touch()
    with pytest.raises(InputError, match=message):
        prompt_source(text)


def shared(name: str) -> str:
    path = SHARED_DATA / name
    if not path.is_file():
        pytest.skip(f"the benchmark file {name} is not in {SHARED_DATA} (set RLSF_SHARED_DATA)")
    return str(path)


@pytest.mark.parametrize(
    ("preset", "name", "count", "first", "last"),
    [
        ("gsm8k", "gsm8k_test.jsonl", 1319, ("1", "18"), ("1319", "14")),
        ("gsm8k", "gsm8k_train.jsonl", 7473, ("1", "72"), ("7473", "50")),
        ("multiarith", "multiarith.json", 600, ("0", "39"), ("599", "2")),
        ("commonsense_qa", "commonsense_qa_dev.jsonl", 1221, ("1afa02df02c908a558b4036e80242fac", "A"), (None, None)),
    ],
)
def test_real_files(preset: str, name: str, count: int, first: tuple, last: tuple) -> None:
    config = prompt_source(f"{preset}:{shared(name)}")
    prompts = load_prompts(config, with_gold=True)
    assert len(prompts) == count
    assert (prompts[0].id, prompts[0].gold) == first
    if preset == "commonsense_qa":
        assert all(len(prompt.choices) == 5 and prompt.gold in tuple("ABCDE") for prompt in prompts)
    else:
        assert (prompts[-1].id, prompts[-1].gold) == last
        assert all(re.fullmatch(r"-?\d+(\.\d+)?", str(prompt.gold)) for prompt in prompts)
    assert load_prompts(config, with_gold=False) == [prompt.without_gold() for prompt in prompts]


def test_the_answer_of_a_real_question_with_a_thousands_separator() -> None:
    prompts = load_prompts(prompt_source(f"gsm8k:{shared('gsm8k_test.jsonl')}"), with_gold=True)
    assert prompts[146].question.startswith("Johnny is picking up the toys")
    assert prompts[146].gold == "2125"  # "#### 2,125" in the file
