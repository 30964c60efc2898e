"""Prompts of several lengths in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PaddedPrompts:
    """Left-padded prompts: ids and mask [P, L], and how many real tokens each has, [P]."""

    ids: Tensor
    mask: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], device: torch.device) -> PaddedPrompts:
        """Any id does for padding: the mask hides it, whether or not the tokenizer has a padding token."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        longest = int(lengths.max())
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = (torch.arange(longest) >= longest - lengths.unsqueeze(1)).long()
        return cls(ids.to(device), mask.to(device), lengths.to(device))

    @property
    def visible(self) -> Tensor | None:
        """The mask, None where there is no padding."""
        return self.mask if bool((self.lengths < self.ids.shape[1]).any()) else None

    @property
    def positions(self) -> Tensor:
        """The place of each token in its own prompt; learned absolute positions need it said."""
        return (self.mask.cumsum(-1) - 1).clamp_(min=0)
