"""Traces of random tokens, and what their statistics must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from architectures import VOCABULARY
from float64_reference import reference
from torch import Tensor
from transformers import PreTrainedModel

from rlsf.answers import Answer
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace

FLOATS = ("logprob", "top1_logprob", "top2_logprob", "logsumexp", "entropy", "mean_logit")


def tokens(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, VOCABULARY, count).tolist()


def trace(prompt: Sequence[int], completion: Sequence[int], **changes: Any) -> Trace:
    fields: dict[str, Any] = {
        "prompt_id": "p",
        "index": 0,
        "strategy": "sampling",
        "prompt_token_ids": np.asarray(prompt, dtype=np.int32),
        "token_ids": np.asarray(completion, dtype=np.int32),
        "text": "",
        "finish_reason": "length",
        "statistics": TokenStatistics.missing(len(completion), VOCABULARY),
    }
    return Trace(**{**fields, **changes})


def groups_of_traces(prompts: Sequence[int], completions: Sequence[int]) -> list[Trace]:
    """For each prompt length a group with one trace of each completion length; answers stand in their middle."""
    traces = []
    for number, length in enumerate(prompts):
        prompt = tokens(length, seed=100 + number)
        for index, size in enumerate(completions):
            answer = Answer("7", size // 3, size // 3 + 1 + size // 4) if index % 3 else None
            completion = tokens(size, seed=1000 * number + index)
            traces.append(trace(prompt, completion, prompt_id=f"p{number}", index=index, answer=answer))
    return traces


@torch.no_grad()
def ordinary_logits(model: PreTrainedModel, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
    """Of every token of the completion, the logits that produced it: one row, no padding, no cache."""
    ids = torch.tensor([[*prompt, *completion[:-1]]], device=model.device)
    return model(input_ids=ids).logits[0, len(prompt) - 1 :]


def assert_statistics(found: Trace, model: PreTrainedModel, tolerance: float) -> None:
    """Within an absolute ``tolerance`` in nats, or a relative one of 2e-6."""
    ids = torch.from_numpy(found.token_ids).long()
    logits = ordinary_logits(model, found.prompt_token_ids.tolist(), ids.tolist())
    assert found.statistics.vocabulary_size == logits.shape[1]
    for name, expected in reference(logits, ids).items():
        np.testing.assert_allclose(
            getattr(found.statistics, name), expected.numpy(), atol=tolerance, rtol=2e-6, err_msg=name
        )
    likeliest = logits.gather(1, torch.from_numpy(found.statistics.top1_id).long().unsqueeze(1)).squeeze(1)
    assert (likeliest >= logits.amax(-1) - tolerance).all()


def assert_equal_statistics(one: TokenStatistics, other: TokenStatistics, tolerance: float) -> None:
    for name in FLOATS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=tolerance, rtol=2e-6, err_msg=name)
