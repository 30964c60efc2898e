"""Statistics of a part of the vocabulary, and how those of all parts become those of the whole, exactly.

Every way of computing (tiles of PyTorch operations, compiled code, a CUDA kernel) cuts the vocabulary into parts and
sees each logit once; this is what it keeps of a part. All is relative to the largest logit of the part, else the
entropy of large logits would cancel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlsf.tokenstats.statistics import TokenStatistics


class StatisticColumns(NamedTuple):
    """The seven statistics of N tokens, each of shape [N], in the order of ``STATISTIC_NAMES``.

    ``top1_id`` is int64, the others are float32, on the device of the logits.
    """

    logprob: Tensor
    top1_logprob: Tensor
    top2_logprob: Tensor
    top1_id: Tensor
    logsumexp: Tensor
    entropy: Tensor
    mean_logit: Tensor

    def to_token_statistics(self, vocabulary_size: int) -> TokenStatistics:
        """The same numbers as NumPy arrays in the container that a trace carries."""
        columns = {name: column.cpu().numpy() for name, column in self._asdict().items()}
        columns["top1_id"] = columns["top1_id"].astype("int32")
        return TokenStatistics(**columns, vocabulary_size=vocabulary_size)


class VocabularyParts(NamedTuple):
    """What is kept of S parts of the vocabulary for N rows, each [N, S]; float32 but for ``top1_id`` (int64).

    ``top1``, ``top2``: the two largest logits, ``top1_id`` the token of the largest (the smaller id on a tie).
    ``excess``: log sum exp(z - top1), >= 0. ``expectation``: sum p (z - top1) with p the softmax of the part, <= 0.
    ``chosen``: the logit of the row's own token, -inf in the parts that do not hold it.
    ``total``: sum of z. ``above``: how many logits exceed that of the row's own token. Not all ways count the last two.
    """

    top1: Tensor
    top2: Tensor
    top1_id: Tensor
    excess: Tensor
    expectation: Tensor
    chosen: Tensor
    total: Tensor | None = None
    above: Tensor | None = None

    def merge(self, mean_logit: Tensor) -> StatisticColumns:
        """The statistics of the whole vocabulary, with the mean logit [N] as given.

        With m = max top1: log Z = log sum_s exp(top1_s - m + excess_s), and with the share w_s of a part in Z
        entropy = log Z - sum_s w_s (expectation_s + top1_s - m).
        """
        largest, winner = self.top1.max(-1)
        distance = (self.top1 - largest.unsqueeze(1)).nan_to_num_(nan=0.0, neginf=torch.finfo(torch.float32).min)
        excess = (distance + self.excess).logsumexp(-1).clamp_(min=0.0)
        share = (distance + self.excess - excess.unsqueeze(1)).exp()
        others = self.top1.scatter(1, winner.unsqueeze(1), self._of(self.top2, winner).unsqueeze(1))
        top2_distance = others.amax(-1) - largest
        return StatisticColumns(
            logprob=self.chosen.amax(-1) - largest - excess,
            top1_logprob=-excess,
            top2_logprob=top2_distance - excess,
            top1_id=self._of(self.top1_id, winner),
            logsumexp=largest + excess,
            entropy=(excess - (share * (self.expectation + distance)).sum(-1)).clamp_(min=0.0),
            mean_logit=mean_logit,
        )

    @staticmethod
    def _of(values: Tensor, parts: Tensor) -> Tensor:
        return values.gather(1, parts.unsqueeze(1)).squeeze(1)
