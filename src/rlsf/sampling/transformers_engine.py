"""The engine for models in this process: batches over prompts, one prefill a prompt, statistics as it decodes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlsf.errors import ModelError, ResourceError
from rlsf.models import eos_token_ids
from rlsf.sampling.batching import LOGITS, BatchLimits, batches, windows
from rlsf.sampling.checking import check_branches, check_request
from rlsf.sampling.choosing import draw, most_likely
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.decoding import Completion, Decoder, NonFiniteLogits, RowPlan
from rlsf.sampling.engine import SamplingRequest, trace_strategy
from rlsf.sampling.forward import CausalModel, Prefix
from rlsf.sampling.randomness import trace_uniforms
from rlsf.sampling.stopping import StopStrings, decode_text
from rlsf.tokenstats.from_logits import statistics_of_logits
from rlsf.traces import Trace

#: Prompt tokens of one prefill; bounds its activations.
_PREFILL_TOKENS = 8192


class TransformersEngine:
    """Samples from a ``transformers`` causal language model: any architecture, on its device, in its precision."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._causal = CausalModel(model)
        self._eos_ids = eos_token_ids(model, tokenizer)
        self._known_stops: dict[tuple[str, ...], StopStrings] = {}

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that the model's token ids belong to."""
        return self._tokenizer

    @property
    def model(self) -> PreTrainedModel:
        """The model sampled from."""
        return self._model

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and completion together, None where unbounded."""
        return self._causal.context_length

    def sample(self, requests: Sequence[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        """The traces of each request, in the order of the requests; a trace's index is its place in the list.

        A stop string ends a trace with the token that completes it: ``token_ids`` keep that token, ``text`` ends
        before the string.

        Every request is checked before any work. At most a window of about eight batches is held at a time.
        """
        for request in requests:
            check_request(request, self.context_length, self._causal.vocabulary_size)
        check_branches(config, self._causal.vocabulary_size)
        return self._sample(list(requests), config)

    def _sample(self, requests: list[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        with self._causal.inference():
            limits = self._limits(config)
        lengths = [len(request.token_ids) for request in requests]
        stops = self._stop_strings(config.stop)
        decoder = Decoder(config, torch.tensor(self._eos_ids, device=self._causal.device), stops)
        for window in windows(lengths, limits):
            sampled: dict[int, list[Trace]] = {}
            for batch in batches(window, lengths, limits):
                members = [requests[position] for position in batch]
                with self._causal.inference():
                    completions = self._complete(members, config, decoder, limits)
                sampled.update(zip(batch, self._traces(members, completions, config, stops), strict=True))
            yield from (sampled.pop(position) for position in window)

    def _stop_strings(self, stops: tuple[str, ...]) -> StopStrings:
        """Kept for the next call: they look at every token of the vocabulary."""
        if stops not in self._known_stops:
            self._known_stops[stops] = StopStrings(self._tokenizer, stops, self._causal.vocabulary_size)
        return self._known_stops[stops]

    def _limits(self, config: SamplingConfig) -> BatchLimits:
        prefill_tokens = _PREFILL_TOKENS
        if not self._causal.last_logits_only:
            prefill_tokens = min(prefill_tokens, LOGITS // self._causal.vocabulary_size)
        return BatchLimits(
            rows_per_prompt=config.branches,
            new_tokens=config.max_new_tokens,
            rows=max(1, LOGITS // self._causal.vocabulary_size),
            cached_tokens=config.batch_tokens,
            prefill_tokens=prefill_tokens,
            mixed_lengths=self._causal.mixed_lengths,
            shared_prompts=self._causal.can_branch(),
        )

    def _complete(
        self, requests: list[SamplingRequest], config: SamplingConfig, decoder: Decoder, limits: BatchLimits
    ) -> list[Completion]:
        """The completions of a batch, in the order of (request, trace index)."""
        try:
            prefix = self._causal.prefill([request.token_ids for request in requests])
            columns = statistics_of_logits(prefix.logits)
            finite = columns.logsumexp.isfinite()
            if not finite.all():
                raise NonFiniteLogits(int((~finite).nonzero()[0]), 0)
            plan = self._plan(prefix, requests, config)
            at_once = limits.rows_at_once(max(len(request.token_ids) for request in requests))
            completions: list[Completion] = []
            for start in range(0, len(plan.prompts), at_once):
                completions += decoder.decode(prefix, columns, plan.rows(slice(start, start + at_once)))
        except NonFiniteLogits as error:
            raise ModelError(
                f"the model's logits for prompt {requests[error.prompt].prompt_id!r} are not finite at new token"
                f" {error.step}: check the weights, or load them in float32 or bfloat16 instead of float16"
            ) from None
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"out of memory while sampling: lower sampling.batch_tokens={config.batch_tokens}"
            ) from error
        return completions

    def _plan(self, prefix: Prefix, requests: list[SamplingRequest], config: SamplingConfig) -> RowPlan:
        """Rows in the order of (prompt, trace index)."""
        device, branches = self._causal.device, config.branches
        context = math.inf if self.context_length is None else self.context_length
        budgets = [int(min(config.max_new_tokens, context - len(request.token_ids))) for request in requests]
        uniforms = None
        if config.strategy == "sampling" or config.continuation == "sampled":
            uniforms = self._uniforms(requests, branches, max(budgets))
        if config.strategy == "sampling":
            assert uniforms is not None
            first_ids = draw(prefix.logits, uniforms[:, 0].view(-1, branches), config)
        else:
            first_ids = most_likely(prefix.logits, branches)
        return RowPlan(
            prompts=torch.arange(len(requests), device=device).repeat_interleave(branches),
            first_ids=first_ids.flatten(),
            budgets=torch.tensor(budgets, device=device).repeat_interleave(branches),
            uniforms=uniforms,
        )

    def _uniforms(self, requests: list[SamplingRequest], branches: int, count: int) -> Tensor:
        numbers = [
            trace_uniforms(request.seed, request.prompt_id, index, count)
            for request in requests
            for index in range(branches)
        ]
        return torch.from_numpy(np.stack(numbers)).to(self._causal.device)

    def _traces(
        self, requests: list[SamplingRequest], completions: list[Completion], config: SamplingConfig, stops: StopStrings
    ) -> list[list[Trace]]:
        texts = decode_text(self._tokenizer, [completion.token_ids.tolist() for completion in completions])
        strategy = trace_strategy(config)
        traces: list[list[Trace]] = []
        for number, request in enumerate(requests):
            prompt_token_ids = np.asarray(request.token_ids, dtype=np.int32)
            rows = range(number * config.branches, (number + 1) * config.branches)
            traces.append(
                [
                    Trace(
                        prompt_id=request.prompt_id,
                        index=index,
                        strategy=strategy,
                        prompt_token_ids=prompt_token_ids,
                        token_ids=completions[row].token_ids,
                        text=stops.trim(texts[row]),
                        finish_reason=completions[row].finish_reason,
                        statistics=completions[row].statistics,
                    )
                    for index, row in enumerate(rows)
                ]
            )
        return traces
