"""Scoring traces that exist: the same numbers as while sampling, whatever stops it, in memory that does not grow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from given_traces import all_traces, lines, score, vllm_records

from rlsf.confidence import SIGNALS
from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError
from rlsf.models import ModelConfig, load_tokenizer
from rlsf.pipeline.context import Run
from rlsf.pipeline.run import sample_round
from rlsf.pipeline.scored_shards import ScoredFolder, cut_into_shards
from rlsf.recipes import Recipe
from rlsf.tokenstats import STATISTIC_NAMES, TokenStatistics
from rlsf.traces import Trace, traces_to_table

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ModelConfig(path=str(MODEL_DIR)))


@pytest.fixture
def sampled(tmp_path: Path, small_recipe: Callable[..., Recipe], open_run: Callable[..., Run]) -> Path:
    """A run of 24 prompts with 6 traces each, sampled only, in three shards."""
    with open_run(small_recipe(), tmp_path / "run") as run:
        sample_round(run, 1)
    return tmp_path / "run"


def assert_same_statistics(found: TokenStatistics, expected: TokenStatistics) -> None:
    """Within 1e-4 nats, logprobs within 5e-5: one pass over many tokens rounds otherwise than steps of one."""
    np.testing.assert_array_equal(found.top1_id, expected.top1_id)
    for name in STATISTIC_NAMES:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-4, rtol=5e-6, err_msg=name)
    np.testing.assert_allclose(found.logprob, expected.logprob, atol=5e-5)


def test_a_run_s_own_traces_have_the_statistics_recorded_while_sampling(sampled: Path, tmp_path: Path) -> None:
    manifest = score(sampled, tmp_path / "scored", shard_traces=50)
    before, after = all_traces(sampled / "traces" / "round-1"), all_traces(tmp_path / "scored")
    assert len(before) == len(after) == manifest.counts["traces"] == 24 * 6
    assert manifest.counts["tokens"] == sum(len(trace.token_ids) for trace in before)
    assert (manifest.counts["shards"], manifest.counts["unscored"], manifest.counts["way"]) == (3, 0, "fused")
    for recorded, scored in zip(before, after, strict=True):
        for name in ("trace_id", "strategy", "text", "finish_reason", "answer", "failure"):
            assert getattr(scored, name) == getattr(recorded, name)
        np.testing.assert_array_equal(scored.token_ids, recorded.token_ids)
        assert_same_statistics(scored.statistics, recorded.statistics)
    disparities = [
        trace.statistics[trace.answer.start : trace.answer.end].disparity.mean() for trace in after if trace.answer
    ]
    assert manifest.counts["answers"] == len(disparities)
    assert manifest.counts["disparity"] == pytest.approx(sum(disparities), rel=1e-5)


def test_another_engine_s_token_ids_have_them_too(sampled: Path, tmp_path: Path, tokenizer: Any) -> None:
    recorded = all_traces(sampled / "traces" / "round-1")
    manifest = score(lines(tmp_path / "vllm.jsonl", *vllm_records(recorded, tokenizer)), tmp_path / "scored")
    scored = all_traces(tmp_path / "scored")
    for one, other in zip(scored, recorded, strict=True):
        assert (one.trace_id, one.text, one.finish_reason) == (other.trace_id, other.text, other.finish_reason)
        np.testing.assert_array_equal(one.prompt_token_ids, other.prompt_token_ids)
        assert_same_statistics(one.statistics, other.statistics)
    # Answers are found in the text again; the options of questions that have some are not in this file.
    assert manifest.counts["answers"] == sum(trace.answer is not None for trace in scored) > len(scored) / 2


def test_only_answers(sampled: Path, tmp_path: Path) -> None:
    recorded = all_traces(sampled / "traces" / "round-1")
    recorded[3] = recorded[3].with_answer(None, "no number in the trace")
    pq.write_table(traces_to_table(recorded), tmp_path / "traces.parquet")
    manifest = score(tmp_path / "traces.parquet", tmp_path / "scored", positions="answer")
    for one, other in zip(all_traces(tmp_path / "scored"), recorded, strict=True):
        inside = np.zeros(len(one.token_ids), dtype=bool)
        if one.answer is not None:
            inside[one.answer.start : one.answer.end] = True
        np.testing.assert_array_equal(one.statistics.top1_id >= 0, inside)
        np.testing.assert_array_equal(np.isfinite(one.statistics.logprob), inside)
        np.testing.assert_allclose(one.statistics.logprob[inside], other.statistics.logprob[inside], atol=2e-5)
        # The signals of the answer need no more; one of the whole trace says that there is no more.
        for name in ("answer_disparity", "answer_top_gap", "answer_probability", "answer_entropy"):
            assert SIGNALS[name].confidence(one) == pytest.approx(SIGNALS[name].confidence(other), abs=1e-5)
        if one.answer is None:
            assert SIGNALS["mean_logprob"].confidence(one) is None
        elif not inside.all():
            with pytest.raises(InputError, match=r"mean_logprob of trace .* needs statistics"):
                SIGNALS["mean_logprob"].confidence(one)
    without = [trace for trace in recorded if trace.answer is None]
    assert (manifest.counts["unscored"], manifest.counts["why"]) == (len(without), without[0].failure)


def test_a_trace_that_cannot_be_scored_is_a_row_with_the_reason(tmp_path: Path) -> None:
    records = (
        {"prompt": "Q: 1 + 1?", "completion": "The answer is 2."},
        {"prompt": "Q: 1 + 2?", "completion": ["", "3"]},
        {"prompt": "Q: 1 + 3?", "completion": "4 " * 600},
        {"prompt_token_ids": [], "completion": "4"},
        {"prompt": "Q: 1 + 4?", "completion": "five"},
    )
    manifest = score(lines(tmp_path / "d.jsonl", *records), tmp_path / "scored")
    scored = all_traces(tmp_path / "scored")
    length = len(scored[3].prompt_token_ids) + len(scored[3].token_ids)
    assert length > 600
    expected = {
        "1#0": None,
        "2#0": "the completion is empty",
        "2#1": None,
        "3#0": f"prompt and completion have {length} tokens and the model's context 512",
        "4#0": "the prompt has no tokens",
        "5#0": "no number in the trace",
    }
    assert {trace.trace_id: trace.failure for trace in scored} == expected
    assert [trace.answer is None for trace in scored] == [reason is not None for reason in expected.values()]
    for place in (1, 3, 4):
        assert np.isnan(scored[place].statistics.logprob).all()
        assert (scored[place].statistics.top1_id == -1).all()
    for place in (0, 2, 5):
        assert np.isfinite(scored[place].statistics.logprob).all()
    assert (manifest.counts["traces"], manifest.counts["unscored"]) == (6, 3)
    assert manifest.counts["why"] == "the completion is empty"


def test_not_one_trace_can_be_scored(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", {"prompt": "Q?", "completion": ["", ""]})
    with pytest.raises(
        InputError, match=r"not one of its 2 traces could be scored, the first because: the completion is"
    ):
        score(path, tmp_path / "scored")


class Stop(Exception):
    """Stands for whatever interrupts a run."""


def stop_before(shard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write = ScoredFolder.write_shard

    def stopping(self: ScoredFolder, number: int, *arguments: Any) -> Any:
        if number == shard:
            raise Stop
        return write(self, number, *arguments)

    monkeypatch.setattr(ScoredFolder, "write_shard", stopping)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_resumed_run_ends_with_the_same_rows(
    recorded: bool, sampled: Path, tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = sampled
    if not recorded:
        records = vllm_records(all_traces(sampled / "traces" / "round-1"), tokenizer)
        traces = lines(tmp_path / "vllm.jsonl", *records)
    whole, output = tmp_path / "whole", tmp_path / "stopped"
    score(traces, whole, shard_traces=40)
    for shard in (0, 1, 3):
        with monkeypatch.context() as stopped, pytest.raises(Stop):
            stop_before(shard, stopped)
            score(traces, output, shard_traces=40, resume=True)
    kept = {path: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    assert len(kept) == 3
    assert (
        score(traces, output, shard_traces=40, resume=True).counts
        == score(traces, whole, shard_traces=40, resume=True).counts
    )
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was finished is kept"
    for path in sorted(whole.glob("*.parquet")):
        assert pq.read_table(output / path.name).equals(pq.read_table(path), check_metadata=True)
    assert len(list(output.glob("*.parquet"))) == 4


def test_another_model_or_other_traces_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "d.jsonl", {"prompt": "Q: 1 + 1?", "completion": "2"}, {"prompt": "Q?", "completion": "3"})
    output, other = tmp_path / "scored", tmp_path / "other"
    shutil.copytree(MODEL_DIR, other)
    (other / "generation_config.json").write_text('{"eos_token_id": 1}')
    with monkeypatch.context() as stopped, pytest.raises(Stop):
        stop_before(1, stopped)
        score(path, output, shard_traces=1)
    with pytest.raises(InputError, match=r"scored exists: choose another --output, or continue that run with --resume"):
        score(path, output, shard_traces=1)
    with pytest.raises(
        InputError, match=r"other inputs \(model\.fingerprint: '[0-9a-f]{12}\.\.\.' -> '[0-9a-f]{12}\.\.\.'\)"
    ):
        score(path, output, shard_traces=1, resume=True, model=other)
    with pytest.raises(InputError, match=r"other inputs \(positions: 'completion' -> 'answer'; shard_traces: 1 -> 2\)"):
        score(path, output, shard_traces=2, positions="answer", resume=True)
    lines(path, {"prompt": "Q: 1 + 1?", "completion": "4"})
    with pytest.raises(InputError, match=r"other inputs \(traces: '[0-9a-f]{12}\.\.\.' ->"):
        score(path, output, shard_traces=1, resume=True)


def test_long_traces_make_smaller_shards() -> None:
    size = 2**20  # tokens: 32 MiB each, of the 128 that a shard may hold
    ids, statistics = np.zeros(size, dtype=np.int32), TokenStatistics.missing(size, 9)
    long = Trace("p", 0, "sampling", ids[:1], ids, "", "length", statistics)
    assert [len(shard) for shard in cut_into_shards([long] * 9, most=100)] == [4, 4, 1]


def test_the_traces_of_a_prompt_stay_in_one_shard() -> None:
    ids, statistics = np.zeros(3, dtype=np.int32), TokenStatistics.missing(3, 9)

    def sizes(groups: str, most: int) -> list[int]:
        traces = [Trace(name, 0, "sampling", ids, ids, "", "length", statistics) for name in groups]
        return [len(shard) for shard in cut_into_shards(traces, most)]

    assert sizes("aaabbbcccd", most=2) == [3, 3, 3, 1]
    assert sizes("abcde", most=2) == [2, 2, 1]
    assert sizes("aaaaabc", most=2) == [4, 2, 1]  # one prompt alone fills a shard twice
    assert sizes("", most=2) == []
