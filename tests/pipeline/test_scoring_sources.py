"""Where traces to score are found, and how what another engine wrote becomes traces."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from given_traces import all_traces, lines, score
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from rlsf.answers.config import AnswerConfig
from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError
from rlsf.pipeline.completions import read_completions
from rlsf.pipeline.encoding import TraceEncoder
from rlsf.pipeline.given import look_at
from rlsf.pipeline.scoring_config import CompletionColumns, scoring_config
from rlsf.pipeline.trace_files import count_recorded, find_traces, read_recorded, scored_beside
from rlsf.prompts.fields import Row
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace, traces_to_table

BOS, EOS = 0, 1
CHAT = "{% for message in messages %}{{ message.role[0] }}:{{ message.content }}{{ eos_token }}{% endfor %}a:"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, so that every character is a token, with ``<s>`` before what it encodes and ``</s>`` after it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([""], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    found = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    found.chat_template = CHAT
    return found


def encoded(tokenizer: Any, *records: dict[str, Any], skip: int = 0, **answer: Any) -> list[Trace]:
    encoder = TraceEncoder(tokenizer, (EOS,), 300, AnswerConfig(**answer), {})
    found = (read_completions(Row(f"d:{n}", record), CompletionColumns()) for n, record in enumerate(records, start=1))
    return list(encoder.traces(found, skip))


def read(tokenizer: Any, ids: np.ndarray) -> str:
    return tokenizer.decode(ids.tolist(), skip_special_tokens=False)


def test_special_tokens_once_before_the_prompt_and_none_in_the_completion(tokenizer: Any) -> None:
    text, with_bos, chat, begun = encoded(
        tokenizer,
        {"prompt": "Q?", "completion": " It is 4."},
        {"prompt": "<s>Q?", "completion": " It is 4.</s>"},
        {"prompt": [{"role": "user", "content": "Q?"}], "completion": "4"},
        {"prompt": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "It"}], "completion": " is 4"},
    )
    assert [read(tokenizer, trace.prompt_token_ids) for trace in (text, with_bos, chat)] == [
        "<s>Q?",
        "<s>Q?",
        "u:Q?</s>a:",
    ]
    assert read(tokenizer, begun.prompt_token_ids) == "u:Q?</s>a:It", "the model goes on with its own turn"
    assert [read(tokenizer, trace.token_ids) for trace in (text, with_bos)] == [" It is 4.", " It is 4.</s>"]
    assert [trace.finish_reason for trace in (text, with_bos)] == ["stop", "eos"]
    assert (text.answer and text.answer.text, text.answer and text.answer.start) == ("4", 7)
    assert len(text.statistics) == 9
    assert np.isnan(text.statistics.entropy).all()


def test_ids_win_over_text(tokenizer: Any) -> None:
    ids = tokenizer(" 12", add_special_tokens=False)["input_ids"]
    record = {"prompt": "other", "prompt_token_ids": [7, 8], "outputs": [{"text": "1", "token_ids": [*ids, EOS]}]}
    (trace,) = encoded(tokenizer, record)
    assert trace.prompt_token_ids.tolist() == [7, 8]
    assert trace.token_ids.tolist() == [*ids, EOS]
    assert (trace.text, trace.finish_reason) == ("1", "eos")
    assert trace.answer is not None
    assert (trace.answer.text, trace.answer.start, trace.answer.end) == ("12", 1, 3)
    (unsaid,) = encoded(tokenizer, {"prompt": "Q?", "token_ids": ids, "finish_reason": "length"})
    assert (unsaid.text, unsaid.finish_reason) == (" 12", "length")


def test_answers_by_format_and_options(tokenizer: Any) -> None:
    record = {"prompt": "Q?", "completion": "The answer is B, not 7."}
    assert [trace.answer and trace.answer.text for trace in encoded(tokenizer, record)] == ["7"]
    assert [trace.answer and trace.answer.text for trace in encoded(tokenizer, {**record, "options": ["x", "y"]})] == [
        "B"
    ]
    (boxed,) = encoded(tokenizer, record, format="boxed")
    assert (boxed.answer, boxed.failure) == (None, "no \\boxed{...} in the trace")


def test_a_conversation_that_the_template_refuses_is_a_failed_trace(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    try:
        (trace,) = encoded(tokenizer, {"prompt": [{"role": "system", "content": "S"}], "completion": "4"})
    finally:
        tokenizer.chat_template = CHAT
    assert trace.failure == "there is no prompt: the tokenizer's chat template refuses it (no system role)"
    assert (len(trace.prompt_token_ids), trace.answer) == (0, None)


def test_traces_are_numbered_by_prompt(tokenizer: Any) -> None:
    def record(prompt: str, *completions: str, **named: str) -> dict[str, Any]:
        return {"prompt": prompt, "completion": [*completions], **named}

    found = encoded(tokenizer, record("a", "1", "2"), record("a", "3"), record("b", "4"), record("a", "5"))
    assert [trace.trace_id for trace in found] == ["1#0", "1#1", "1#2", "2#0", "3#0"]
    found = encoded(tokenizer, record("a", "1", id="x"), record("b", "2", id="y"), record("a", "3", "4", id="x"))
    assert [trace.trace_id for trace in found] == ["x#0", "y#0", "x#1", "x#2"]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.sampled_from(["x", "y", "z"])), max_size=6),
    st.integers(0, 20),
    st.booleans(),
)
def test_what_is_skipped_still_counts(tokenizer: Any, asked: list[tuple[str, int, str]], skip: int, ids: bool) -> None:
    records = [
        {"prompt": prompt, "completion": [str(n) for n in range(count)], **({"id": name} if ids else {})}
        for prompt, count, name in asked
    ]
    whole, rest = encoded(tokenizer, *records), encoded(tokenizer, *records, skip=skip)
    assert [(trace.trace_id, trace.text) for trace in rest] == [(trace.trace_id, trace.text) for trace in whole[skip:]]


def recorded(count: int) -> list[Trace]:
    missing = TokenStatistics.missing(2, 9)
    prompts, ids = np.arange(count, dtype=np.int32), np.array([4, 3], np.int32)
    return [Trace(f"p{n}", 0, "sampling", prompts[n : n + 1], ids, "", "eos", missing) for n in range(count)]


def test_our_own_traces_from_any_place(tmp_path: Path) -> None:
    traces = recorded(700)
    for number, (start, end, rows) in enumerate([(0, 300, 300), (300, 301, 1), (301, 301, 1), (301, 700, 100)]):
        path = tmp_path / f"part-{number:05d}.parquet"
        pq.write_table(traces_to_table(traces[start:end]), path, row_group_size=rows)
    files = find_traces(tmp_path)
    assert files.recorded
    assert count_recorded(files, 700) == 700
    for skip in (0, 1, 255, 256, 299, 300, 301, 302, 401, 450, 699, 700):
        assert [trace.prompt_id for trace in read_recorded(files, skip)] == [f"p{n}" for n in range(skip, 700)]
    assert np.isnan(next(read_recorded(files)).statistics.logprob).all()
    with pytest.raises(
        InputError, match=r"part-00003\.parquet: row 399: token id 699 is outside .* vocabulary of 699 tokens"
    ):
        count_recorded(files, 699)


def test_where_traces_are_found(tmp_path: Path) -> None:
    shard = tmp_path / "run" / "traces" / "round-1" / "part-00000.parquet"
    shard.parent.mkdir(parents=True)
    pq.write_table(traces_to_table(recorded(3)), shard)
    for place in (shard, shard.parent, tmp_path / "run" / "traces", tmp_path / "run"):
        assert find_traces(place).paths == (shard,)
    shutil.copytree(shard.parent, tmp_path / "run" / "traces" / "round-2")
    with pytest.raises(InputError, match=r"run has the traces of 2 rounds: name one, .*round-1 for instance"):
        find_traces(tmp_path / "run")
    loose = tmp_path / "completions"
    loose.mkdir()
    for name in ("completions_00020.parquet", "completions_00010.parquet"):  # as TRL names them
        pq.write_table(pa.table({"prompt": ["Q?"], "completion": ["4"]}), loose / name)
    found = find_traces(loose)
    assert ([path.name for path in found.paths], found.recorded) == (
        ["completions_00010.parquet", "completions_00020.parquet"],
        False,
    )
    shutil.copy(shard, loose / "more.parquet")
    with pytest.raises(InputError, match=r"traces of rlsf beside files of other columns"):
        find_traces(loose)


def test_the_output_lies_beside_the_traces() -> None:
    names = {"a/mine.jsonl": "a/mine.scored", "qwen2.5.jsonl.gz": "qwen2.5.scored", "runs/x": "runs/x.scored"}
    assert {name: str(scored_beside(Path(name))) for name in names} == names


@pytest.mark.parametrize("kind", ["parquet", "json", "jsonl.gz"])
def test_other_containers(tmp_path: Path, kind: str) -> None:
    records = [{"prompt": f"Q: {n} + 1?", "completion": f"{n + 1}", "step": n} for n in range(3)]
    path = tmp_path / f"d.{kind}"
    match kind:
        case "parquet":
            pq.write_table(pa.Table.from_pylist(records), path)
        case "json":
            path.write_text(json.dumps(records))
        case _:
            path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))
    assert score(path, tmp_path / "scored").counts["traces"] == 3
    assert [trace.answer and trace.answer.text for trace in all_traces(tmp_path / "scored")] == ["1", "2", "3"]
    assert [trace.trace_id for trace in all_traces(tmp_path / "scored")] == ["1#0", "2#0", "3#0"]


def test_traces_that_are_still_being_sampled_are_warned_of(tmp_path: Path) -> None:
    trace = recorded(1)[0]
    pq.write_table(traces_to_table([trace]), tmp_path / "part-00000.parquet")

    def warnings(place: Path) -> tuple[str, ...]:
        return look_at(scoring_config({}, {"traces": str(place)}, {"model": {"path": str(MODEL_DIR)}})).warnings

    assert warnings(tmp_path) == (f"{tmp_path} is not finished (no manifest.json): what is there so far is scored",)
    assert warnings(tmp_path / "part-00000.parquet") == ()
    (tmp_path / "manifest.json").touch()
    assert warnings(tmp_path) == ()


def test_options_without_a_meaning_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.parquet"
    pq.write_table(traces_to_table(recorded(3)), own)
    other = lines(tmp_path / "d.jsonl", {"prompt": "Q?", "completion": "4"})
    model = {"model": {"path": str(MODEL_DIR)}}
    for traces, overrides, columns, message in (
        (own, {"answer": {"format": "boxed"}}, {}, r"--answer\.\* means nothing for .*own\.parquet"),
        (own, {}, {"prompt": "text"}, r"--columns\.\* means nothing for .*own\.parquet"),
        (other, {"answer": {"format": "elicited"}}, {}, r"answer\.format=elicited asks the model to write on"),
        (other, {"sampling": {"branches": 3}}, {}, r"--sampling\.branches means nothing to `rlsf score`"),
        (
            other,
            {"anwser": {"format": "tag"}},
            {},
            r"--anwser\.format means nothing to `rlsf score` \(did you mean 'answer'",
        ),
        (other, {"answer": {"fromat": "tag"}}, {}, r"unknown key 'answer\.fromat' \(did you mean 'format'"),
    ):
        with pytest.raises(InputError, match=message):
            look_at(scoring_config({}, {"traces": str(traces), "columns": columns}, {**model, **overrides}))
