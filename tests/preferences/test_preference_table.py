"""The preference table: TRL's columns, the sampled ids, and reports that add up."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ranked_traces import trace_for

from rlsf.errors import InputError
from rlsf.preferences import PREFERENCE_SCHEMA, RankingConfig, RankingReport, rank

TEXTS = {"p": "Q: 3 + 4?\nA:", "q": "Q: 2 + 2?\nA:", "r": "Q: 1 + 1?\nA:"}
GROUPS = [
    [trace_for(0, "7"), trace_for(1, "8"), trace_for(2, None)],
    [trace_for(0, "4", "q"), trace_for(1, "4", "q", finish_reason="length")],
    [trace_for(0, "2", "r"), trace_for(1, "3", "r")],
]
CONFIDENCES = [[0.95, 0.2, None], [0.99, 0.99], [0.91, 0.90]]


def test_a_row() -> None:
    table, _ = rank(GROUPS[:1], CONFIDENCES[:1], RankingConfig(), TEXTS)
    assert table.schema.equals(PREFERENCE_SCHEMA)
    assert table.to_pylist() == [
        {
            "prompt": "Q: 3 + 4?\nA:",
            "chosen": "text 0",
            "rejected": "text 1",
            "prompt_ids": [1, 5],
            "chosen_ids": [10, 3, 2],
            "rejected_ids": [11, 3, 2],
            "margin": pytest.approx(2.7182818**0.75),
            "chosen_confidence": 0.95,
            "rejected_confidence": 0.2,
            "chosen_trace_id": "p#0",
            "rejected_trace_id": "p#1",
            "prompt_id": "p",
        }
    ]


def test_report_of_everything() -> None:
    table, report = rank(GROUPS, CONFIDENCES, RankingConfig(), TEXTS)
    assert table.column("prompt_id").to_pylist() == ["p", "r"]
    # gaps .75 and .01
    assert report == RankingReport(
        prompts=3,
        traces=7,
        without_answer=1,
        truncated=1,
        prompts_without_pairs=1,
        too_few_traces=1,
        pairs=2,
        mean_gap=pytest.approx(0.38),  # type: ignore[arg-type]
    )


def test_reports_of_shards_add_up() -> None:
    config = RankingConfig()
    parts = [rank(GROUPS[i : i + 1], CONFIDENCES[i : i + 1], config, TEXTS)[1] for i in range(3)]
    whole = rank(GROUPS, CONFIDENCES, config, TEXTS)[1]
    total = parts[2] + parts[0] + parts[1]
    assert total.mean_gap == pytest.approx(whole.mean_gap)
    assert total.prompts == whole.prompts == 3
    assert total.pairs == whole.pairs == 2
    assert (RankingReport(without_confidence=2) + RankingReport(without_confidence=1)).without_confidence == 3
    assert RankingReport() + whole == whole
    assert (RankingReport() + RankingReport()).mean_gap is None


def test_nothing_to_rank_keeps_the_schema(tmp_path: Path) -> None:
    table, report = rank([], [], RankingConfig(), {})
    assert report == RankingReport()
    pq.write_table(table, tmp_path / "pairs.parquet")
    assert pq.read_table(tmp_path / "pairs.parquet").schema.equals(PREFERENCE_SCHEMA)


def test_missing_prompt_text() -> None:
    with pytest.raises(InputError, match="no text for prompt 'p'"):
        rank(GROUPS[:1], CONFIDENCES[:1], RankingConfig(), {})


def test_a_prompt_given_in_two_pieces() -> None:
    with pytest.raises(InputError, match="prompt 'p' comes twice"):
        rank([GROUPS[0], GROUPS[0]], [CONFIDENCES[0]] * 2, RankingConfig(), TEXTS)


def test_repeated_trace_index() -> None:
    with pytest.raises(InputError, match="two traces of prompt 'p' have the same index"):
        rank([[trace_for(0), trace_for(0)]], [[0.9, 0.1]], RankingConfig(), TEXTS)


def test_traces_of_two_prompts_in_one_group() -> None:
    with pytest.raises(ValueError, match="traces of several prompts ranked together: p, q"):
        rank([[trace_for(0), trace_for(0, prompt_id="q")]], [[0.9, 0.1]], RankingConfig(), TEXTS)
