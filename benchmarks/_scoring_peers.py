"""Token statistics of traces as they are usually computed: from all logits of a forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

#: Token ids of a prompt and of its completion.
Pair = tuple[list[int], list[int]]


def statistics_of(logits: Tensor, ids: Tensor) -> Tensor:
    """Logprob, the two largest, logsumexp, entropy and mean logit of each token, [6, N], by one operation each."""
    logprobs = torch.log_softmax(logits.float(), -1)
    largest = logprobs.topk(2, -1).values
    return torch.stack(
        [
            logprobs.gather(1, ids.unsqueeze(1)).squeeze(1),
            largest[:, 0],
            largest[:, 1],
            logits.logsumexp(-1),
            -(logprobs.exp() * logprobs).sum(-1),
            logits.mean(-1),
        ]
    )


@torch.inference_mode()
def one_trace_at_a_time(model: PreTrainedModel, pairs: Sequence[Pair]) -> list[Tensor]:
    """A forward pass for every trace."""
    found = []
    for prompt, completion in pairs:
        ids = torch.tensor([prompt + completion])
        logits = model(input_ids=ids, use_cache=False).logits[0]
        found.append(statistics_of(logits[len(prompt) - 1 : -1], ids[0, len(prompt) :]))
    return found


@torch.inference_mode()
def batches_of_traces(model: PreTrainedModel, pairs: Sequence[Pair], rows: int) -> list[Tensor]:
    """``rows`` traces at a time, in their order, padded on the right."""
    found: list[Tensor] = []
    for start in range(0, len(pairs), rows):
        batch = pairs[start : start + rows]
        longest = max(len(prompt) + len(completion) for prompt, completion in batch)
        ids, mask, keep = (torch.zeros(len(batch), longest, dtype=torch.long) for _ in range(3))
        for row, (prompt, completion) in enumerate(batch):
            end = len(prompt) + len(completion)
            ids[row, :end] = torch.tensor(prompt + completion)
            mask[row, :end] = 1
            keep[row, len(prompt) : end] = 1
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        kept = keep[:, 1:].bool()
        statistics = statistics_of(logits[:, :-1][kept], ids[:, 1:][kept])
        found += statistics.split(kept.sum(1).tolist(), dim=1)
    return found
