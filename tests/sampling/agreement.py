"""What a trace's recorded statistics must be, by the logits that produced its tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rlsf.tokenstats.statistics import UNSERVED
from rlsf.traces import Trace

EVERY = ("logprob", "top1_logprob", "top2_logprob", *UNSERVED)


def assert_statistics(
    trace: Trace, logits: torch.Tensor, tolerance: float = 1e-4, names: Sequence[str] = EVERY
) -> None:
    """The recorded statistics ``names`` are those of ``logits`` [T, V], which produced the tokens."""
    logprobs = torch.log_softmax(logits, -1)
    top = logprobs.sort(-1, descending=True).values
    ids = torch.from_numpy(trace.token_ids).long()
    expected = {
        "logprob": logprobs.gather(1, ids.unsqueeze(1)).squeeze(1),
        "top1_logprob": top[:, 0],
        "top2_logprob": top[:, 1],
        "logsumexp": logits.logsumexp(-1),
        "entropy": -(logprobs.exp() * logprobs).sum(-1),
        "mean_logit": logits.mean(-1),
    }
    for name in names:
        recorded = getattr(trace.statistics, name)
        np.testing.assert_allclose(recorded, expected[name].numpy(), atol=tolerance, rtol=1e-5, err_msg=name)
    best = logits.gather(1, torch.from_numpy(trace.statistics.top1_id).long().unsqueeze(1)).squeeze(1)
    assert (best >= logits.amax(-1) - tolerance).all()
