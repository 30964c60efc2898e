"""Traces whose statistics follow from explicit next-token distributions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlsf.answers.answer import Answer
from rlsf.tokenstats.statistics import TokenStatistics
from rlsf.traces import Trace


def trace_of(
    distributions: Sequence[Sequence[float]], chosen: Sequence[int], answer: tuple[int, int] | None = None
) -> Trace:
    """A trace whose token t was produced by ``distributions[t]`` and is number ``chosen[t]`` of it."""
    probabilities = np.asarray(distributions, dtype=np.float64).reshape(
        len(chosen), len(distributions[0]) if distributions else 2
    )
    logprobs = np.log(probabilities)
    ordered = np.sort(logprobs, axis=1)[:, ::-1]
    rows = np.arange(len(chosen))
    statistics = TokenStatistics(
        logprob=logprobs[rows, list(chosen)].astype(np.float32),
        top1_logprob=ordered[:, 0].astype(np.float32),
        top2_logprob=ordered[:, 1].astype(np.float32),
        top1_id=logprobs.argmax(1).astype(np.int32),
        logsumexp=np.zeros(len(chosen), dtype=np.float32),
        entropy=-(probabilities * logprobs).sum(1).astype(np.float32),
        mean_logit=logprobs.mean(1).astype(np.float32),
        vocabulary_size=probabilities.shape[1],
    )
    return Trace(
        prompt_id="p",
        index=0,
        strategy="cot_decoding",
        prompt_token_ids=np.zeros(1, dtype=np.int32),
        token_ids=np.asarray(chosen, dtype=np.int32),
        text="",
        finish_reason="eos",
        statistics=statistics,
        answer=None if answer is None else Answer("7", *answer),
    )
