"""The engine for models behind an OpenAI-compatible server: completions with the two likeliest tokens of each step.

A server returns log-probabilities of a few tokens, not distributions: ``logsumexp``, ``entropy`` and ``mean_logit`` of
its traces are missing. CoT-decoding (arXiv 2402.10200) asks for the K likeliest first tokens, then continues each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from rlsf.errors import InputError
from rlsf.models import configured_context_length, load_model_config
from rlsf.models.config import ModelConfig
from rlsf.models.facts import configured_eos_token_ids
from rlsf.sampling.checking import check_request
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.connection import ServerConnection, run_to_end
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.served_model import ServedModel, look_at_server
from rlsf.sampling.served_sampler import ServedSampler
from rlsf.sampling.token_names import TokenNames, prompt_text
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class OpenAIEngine:
    """Samples from the server of ``config``; ``config.path`` names its tokenizer and configuration."""

    def __init__(self, config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        if config.server is None:
            raise ValueError("no server in the model's configuration")
        self._server, self._tokenizer = config.server, tokenizer
        self._names = TokenNames(tokenizer)
        model_config = load_model_config(config)
        self._vocabulary_size: int = model_config.get_text_config(decoder=True).vocab_size
        self._own_context = configured_context_length(model_config)
        self._eos_ids = configured_eos_token_ids(config, model_config, tokenizer)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that the model's token ids belong to."""
        return self._tokenizer

    @cached_property
    def served(self) -> ServedModel:
        """The model on the server, asked for once."""

        async def look() -> ServedModel:
            async with ServerConnection(self._server) as connection:
                return await look_at_server(connection, self._server)

        return run_to_end(look())

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and completion together: the smaller of the model's and the server's bound."""
        return min(filter(None, (self._own_context, self.served.context_length)), default=None)

    def sample(self, requests: Sequence[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        """The traces of each request, in the order of the requests; a trace's index is its place in the list.

        A completion whose token ids cannot be told becomes a trace without tokens, with the reason as its ``failure``;
        raises ``InputError`` where there is no other, where the server returns too few likely tokens, and for
        log-probabilities that are not the model's own; ``ResourceError`` where the server is lost.
        """
        self._require_own_distribution(config)
        context = self.context_length
        for request in requests:
            self._check(request, context)
        return self._sample(list(requests), config)

    def _sample(self, requests: list[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        groups = run_to_end(self._sample_all(requests, config)) if requests else []
        failures = [trace.failure for group in groups for trace in group]
        if failures and all(failures):
            raise InputError(
                f"not one of {len(failures)} completions of {self._server.url} can be used, the first because"
                f" {failures[0]}: check that model.path names the tokenizer of the model that is served"
            )
        yield from groups

    async def _sample_all(self, requests: list[SamplingRequest], config: SamplingConfig) -> list[list[Trace]]:
        async with ServerConnection(self._server) as connection:
            sampler = ServedSampler(
                connection=connection,
                server=self._server,
                served=self.served,
                config=config,
                names=self._names,
                eos_ids=self._eos_ids,
                vocabulary_size=self._vocabulary_size,
                context_length=self.context_length,
            )
            return list(await asyncio.gather(*(sampler.traces(request) for request in requests)))

    def _require_own_distribution(self, config: SamplingConfig) -> None:
        drawn = config.strategy == "sampling" or config.continuation == "sampled"
        changed = (config.temperature, config.top_p, config.min_p, config.top_k) != (1.0, 1.0, 0.0, 0)
        if self._server.logprobs == "processed" and drawn and changed:
            raise InputError(
                "model.server.logprobs=processed: after temperature and filters they are not the model's own"
                " probabilities; sample with sampling.temperature=1 and without filters, or serve raw ones (vLLM:"
                " --logprobs-mode raw_logprobs)"
            )

    def _check(self, request: SamplingRequest, context: int | None) -> None:
        check_request(request, context, self._vocabulary_size)
        if self._server.prompts == "text" and prompt_text(self._tokenizer, request.token_ids) is None:
            raise InputError(
                f"prompt {request.prompt_id!r} has no text that encodes to its token ids, and"
                " model.server.prompts=text sends text alone: use a server that takes ids"
            )
