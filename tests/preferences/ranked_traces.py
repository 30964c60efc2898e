"""Traces for ranking: distinct token ids, an answer, and nothing that ranking does not look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlsf.answers.answer import Answer
from rlsf.tokenstats.statistics import STATISTIC_NAMES, TokenStatistics
from rlsf.traces import FinishReason, Trace


def trace_for(
    index: int,
    answer: str | None = "7",
    prompt_id: str = "p",
    tokens: Sequence[int] | None = None,
    finish_reason: FinishReason = "eos",
) -> Trace:
    ids = np.asarray([10 + index, 3, 2] if tokens is None else tokens, dtype=np.int32)
    columns = [np.zeros(len(ids), dtype=np.int32 if name == "top1_id" else np.float32) for name in STATISTIC_NAMES]
    return Trace(
        prompt_id=prompt_id,
        index=index,
        strategy="cot_decoding",
        prompt_token_ids=np.asarray([1, 5], dtype=np.int32),
        token_ids=ids,
        text=f"text {index}",
        finish_reason=finish_reason,
        statistics=TokenStatistics(*columns, vocabulary_size=100),
        answer=None if answer is None else Answer(answer, 1, 2),
        failure="no number" if answer is None else None,
    )
