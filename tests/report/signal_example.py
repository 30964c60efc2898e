"""A study of five signals on made-up traces of every kind: the page and its drawings are tested on it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from rlsf.evaluation.signal_schema import SignalStudy, StudySettings
from rlsf.evaluation.signal_study import study_signals
from rlsf.evaluation.studied_traces import STUDY_SCHEMA, StudiedTraces
from rlsf.recipes.resolve import resolve
from rlsf.report.signal_page import StudyFacts

#: How far the confidences of right and of wrong traces are apart, by signal.
_SKILL = {
    "answer_disparity": 1.0,
    "trace_confidence": 1.6,
    "minimum_disparity": 1.3,
    "mean_logprob": 0.7,
    "self_certainty": -0.4,
}


def example_study(
    questions: int = 60, skill: dict[str, float] | None = None, *, everything_right: bool = False
) -> SignalStudy:
    """Six traces a question, one in twenty without an answer; worked ones are right more often, copied ones surer."""
    skill = _SKILL if skill is None else skill
    generator = np.random.default_rng(0)
    rows = []
    for question in range(questions):
        hardness = generator.normal()
        for index in range(6):
            worked, copied = index % 2 == 1, index > 1
            good = 0.8 * worked - hardness + generator.normal() > 0 or everything_right
            answered = generator.random() > 0.05
            row = {"prompt_id": f"q{question:03}", "index": index, "answer_class": -1, "tokens": 20, "correct": False}
            if answered:
                row |= {"answer": str(good), "answer_class": int(good), "answer_start": 0, "answer_end": 1}
                row |= {"correct": bool(good), "worked": worked, "copied": copied}
            for name, apart in skill.items():
                sureness = apart * (2 * good - 1) + worked + copied + generator.normal()
                row[name] = float(1 / (1 + np.exp(-2 * sureness)))
            rows.append(row)
    schema = pa.schema([*STUDY_SCHEMA, *((name, pa.float64()) for name in skill)])
    return study_signals(StudiedTraces.of(pa.Table.from_pylist(rows, schema=schema)), StudySettings(resamples=100))


def example_facts(text: str | None = None) -> StudyFacts:
    """What the page says besides; with ``text`` in the place of every text that others write."""
    layer = {"model": {"path": text or "sums-1m"}, "evaluation_data": {"path": text or "questions.jsonl"}}
    return StudyFacts(
        model=text or "sums-1m",
        data=text or "questions.jsonl",
        tokens=12_345,
        truncated=2,
        recipe=resolve(None, None, layer),
        environment={"rlsf": text or "0.1.0", "python": text or "3.12.0"},
    )
