"""Per-token statistics of a next-token distribution: the container and the quantities derived from it.

One convention, written once. Position t holds the statistics of the distribution p_t that *produced*
token t (temperature 1, before any top-k, top-p or min-p filter). z_t are its logits, V the vocabulary size.

===============  ==========================================  ==============
``logprob``      log p_t(y_t)                                nats, <= 0
``top1_logprob`` log of the largest probability              nats, <= 0
``top2_logprob`` log of the second largest probability       nats, <= 0
``top1_id``      its token id (the smaller id on a tie)      token id
``logsumexp``    log sum_v exp z_t(v)                        nats
``entropy``      -sum_v p_t(v) log p_t(v)                    nats, [0, log V]
``mean_logit``   (1/V) sum_v z_t(v)                          nats
===============  ==========================================  ==============

Derived, elementwise: ``probability``, ``disparity``, ``top_gap``, ``self_certainty``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]

#: Names of the recorded columns, in the order of the Parquet schema.
STATISTIC_NAMES = (
    "logprob",
    "top1_logprob",
    "top2_logprob",
    "top1_id",
    "logsumexp",
    "entropy",
    "mean_logit",
)
#: Those that need the whole distribution; servers return but its likeliest tokens.
UNSERVED = ("logsumexp", "entropy", "mean_logit")


@dataclass(frozen=True, slots=True, eq=False)
class TokenStatistics:
    """Statistics of T tokens; every array has shape [T]."""

    logprob: FloatArray
    top1_logprob: FloatArray
    top2_logprob: FloatArray
    top1_id: IntArray
    logsumexp: FloatArray
    entropy: FloatArray
    mean_logit: FloatArray
    vocabulary_size: int

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in STATISTIC_NAMES}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"token statistics of unequal lengths: {lengths}")

    def __len__(self) -> int:
        return len(self.logprob)

    def __getitem__(self, window: slice) -> TokenStatistics:
        """The statistics of a contiguous run of tokens."""
        return TokenStatistics(
            *(getattr(self, name)[window] for name in STATISTIC_NAMES), vocabulary_size=self.vocabulary_size
        )

    @property
    def probability(self) -> FloatArray:
        """p_t(y_t), in [0, 1]."""
        return np.exp(self.logprob)

    @property
    def top_gap(self) -> FloatArray:
        """p_t(top 1) - p_t(top 2), in [0, 1]: CoT-decoding's Delta at one token (arXiv 2402.10200, eq. 1)."""
        return np.maximum(np.exp(self.top1_logprob) - np.exp(self.top2_logprob), np.float32(0.0))

    @property
    def disparity(self) -> FloatArray:
        """max(0, p_t(y_t) - max_{v != y_t} p_t(v)), in [0, 1]: RLSF's probability disparity (arXiv 2507.21931).

        The top gap where the token is the most likely one, zero where another token was likelier. The
        published code subtracts the second largest probability instead, which differs only for tokens of
        rank three or lower, where it turns negative.
        """
        # In this order, what is missing (NaN) stays missing.
        return np.where(self.logprob < self.top1_logprob, np.float32(0.0), self.top_gap)

    @property
    def self_certainty(self) -> FloatArray:
        """KL(U || p_t) = logsumexp - mean_logit - log V, in nats, >= 0 (arXiv 2502.18581, eq. 8)."""
        return self.logsumexp - self.mean_logit - np.float32(np.log(self.vocabulary_size))

    @classmethod
    def missing(cls, length: int, vocabulary_size: int) -> TokenStatistics:
        """Statistics of tokens that nobody has measured: NaN, and -1 for ``top1_id``."""
        columns: dict[str, Any] = {
            name: np.full(length, -1, np.int32) if name == "top1_id" else np.full(length, np.nan, np.float32)
            for name in STATISTIC_NAMES
        }
        return cls(**columns, vocabulary_size=vocabulary_size)

    @classmethod
    def of_likeliest(
        cls,
        *,
        logprob: ArrayLike,
        top1_logprob: ArrayLike,
        top2_logprob: ArrayLike,
        top1_id: ArrayLike,
        vocabulary_size: int,
    ) -> TokenStatistics:
        """Statistics of tokens of which the likeliest alternatives alone are known; the rest (``UNSERVED``) is NaN."""
        known = np.asarray(logprob, dtype=np.float32)
        columns: dict[str, Any] = {name: np.full(len(known), np.nan, np.float32) for name in UNSERVED}
        return cls(
            logprob=known,
            top1_logprob=np.asarray(top1_logprob, dtype=np.float32),
            top2_logprob=np.asarray(top2_logprob, dtype=np.float32),
            top1_id=np.asarray(top1_id, dtype=np.int32),
            vocabulary_size=vocabulary_size,
            **columns,
        )

    @property
    def of_likeliest_alone(self) -> bool:
        """Whether all tokens have statistics of the likeliest alternatives and none has those of the distribution."""
        whole = all(np.isnan(getattr(self, name)).all() for name in UNSERVED)
        return len(self) > 0 and whole and bool((self.top1_id >= 0).all() and np.isfinite(self.top1_logprob).all())

    @classmethod
    def concatenate(cls, parts: Sequence[TokenStatistics]) -> TokenStatistics:
        """The statistics of consecutive runs of tokens, joined."""
        if not parts:
            raise ValueError("nothing to concatenate: no token statistics given")
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in STATISTIC_NAMES}
        return cls(**columns, vocabulary_size=parts[0].vocabulary_size)


assert tuple(f.name for f in fields(TokenStatistics))[:-1] == STATISTIC_NAMES
