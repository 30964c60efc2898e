"""Scores of token sequences by a reward model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from rlsf.errors import InputError, ResourceError
from rlsf.models import context_length
from rlsf.models.reward_model import padded_with, unambiguous_padding

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Token positions of a forward pass, padding included.
BATCH_TOKENS = 8192


@torch.no_grad()
def reward_scores(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], *, batch_tokens: int = BATCH_TOKENS
) -> list[float]:
    """The reward of each sequence of token ids, prompt and completion together, read at its last token.

    Sequences of like length share a forward pass of at most ``batch_tokens`` positions (a longer sequence has one of
    its own). The model is in evaluation mode meanwhile. Raises ``InputError`` for a sequence that is empty or does not
    fit the model's context, ``ResourceError`` when memory runs out.
    """
    _require_fitting(sequences, context_length(model))
    scores = [0.0] * len(sequences)
    training = model.training
    model.eval()
    try:
        for places in _batches(sequences, batch_tokens):
            batch = _scores_of_batch(model, [sequences[place] for place in places])
            for place, score in zip(places, batch, strict=True):
                scores[place] = score
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"out of memory while scoring by the reward model: lower batch_tokens={batch_tokens}"
        ) from error
    finally:
        model.train(training)
    return scores


def _scores_of_batch(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> list[float]:
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    # Completions end in any token; an id that ends one of them and pads another would be read in the wrong place.
    padding = unambiguous_padding(torch.tensor([sequence[-1] for sequence in sequences]))
    ids = torch.full((len(sequences), int(lengths.max())), padding)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    with padded_with(model, padding):
        outputs = model(ids.to(model.device), attention_mask=mask.long().to(model.device), use_cache=False)
    return outputs.logits[:, 0].float().tolist()


def _batches(sequences: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Places of sequences that share a pass, longest first."""
    batch: list[int] = []
    for place in sorted(range(len(sequences)), key=lambda place: -len(sequences[place])):
        if batch and (len(batch) + 1) * len(sequences[batch[0]]) > batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _require_fitting(sequences: Sequence[Sequence[int]], context: int | None) -> None:
    for place, sequence in enumerate(sequences):
        if not len(sequence):
            raise InputError(f"sequence {place} is empty: a reward is read at the last token")
        if context is not None and len(sequence) > context:
            raise InputError(
                f"sequence {place} has {len(sequence)} tokens, the reward model's context {context}: score shorter ones"
            )
