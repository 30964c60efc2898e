"""Requests that no model can serve, met before any work."""

from __future__ import annotations

from rlsf.errors import InputError
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import SamplingRequest


def check_request(request: SamplingRequest, context: int | None, vocabulary_size: int) -> None:
    """Raise ``InputError`` for a prompt without tokens, without room in the context, or with ids of another model."""
    length = len(request.token_ids)
    if not length:
        raise InputError(f"prompt {request.prompt_id!r} is empty: it has no tokens to continue")
    if context is not None and length >= context:
        raise InputError(
            f"prompt {request.prompt_id!r} has {length} tokens and the model's context {context}, which leaves no"
            " room for an answer: shorten the prompt or choose a model with a longer context"
        )
    strange = [token for token in request.token_ids if not 0 <= token < vocabulary_size]
    if strange:
        raise InputError(
            f"prompt {request.prompt_id!r} holds token id {strange[0]}, outside the model's vocabulary of"
            f" {vocabulary_size}: use the tokenizer that belongs to the model"
        )


def check_branches(config: SamplingConfig, vocabulary_size: int) -> None:
    """Raise ``InputError`` where CoT-decoding is to start more branches than there are tokens."""
    if config.strategy == "cot_decoding" and config.branches > vocabulary_size:
        raise InputError(
            f"sampling.branches={config.branches}, but the vocabulary has only {vocabulary_size} tokens to start a"
            " branch with: choose fewer branches"
        )
