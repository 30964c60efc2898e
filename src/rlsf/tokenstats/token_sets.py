"""The probability of sets of tokens: "True" in its spellings, the letters A to E, the digits.

sum_{v in set} p_v = sum_{v in set} exp(z_v - log Z): with the ``logsumexp`` of a distribution at hand, only the logits
of these tokens are needed. CORE-PO's P(True) is one (arXiv 2505.17454).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlsf.errors import InputError
from rlsf.tokenstats.parts import StatisticColumns


def flat_ids(token_sets: Sequence[Sequence[int]], vocabulary_size: int, device: torch.device) -> Tensor:
    """The ids of all sets one after the other. Raises ``InputError`` for an empty set and ids out of range."""
    for number, token_set in enumerate(token_sets):
        if not len(token_set):
            raise InputError(f"token set {number} is empty")
        strange = [token for token in token_set if not 0 <= token < vocabulary_size]
        if strange:
            raise InputError(
                f"token set {number} holds token id {strange[0]}, but the vocabulary has {vocabulary_size} tokens"
            )
        if len(set(token_set)) < len(token_set):
            raise InputError(f"token set {number} names a token twice, which would count twice")
    return torch.tensor([token for token_set in token_sets for token in token_set], device=device, dtype=torch.int64)


def masses(logits: Tensor, columns: StatisticColumns, token_sets: Sequence[Sequence[int]]) -> Tensor:
    """Of the ``logits`` [N, sum of sizes] of all sets' tokens, in order, the probabilities of the sets, [N, S]."""
    probabilities = (logits - columns.logsumexp.unsqueeze(1)).exp()
    parts = probabilities.split([len(token_set) for token_set in token_sets], dim=1)
    # Rounding may lift the sum of all tokens above one.
    return torch.stack([part.sum(1) for part in parts], dim=1).clamp_(max=1.0)
