"""The engine for models that vLLM holds in a child process: the two likeliest tokens of each step are recorded.

``logsumexp``, ``entropy`` and ``mean_logit`` of its traces are missing. CoT-decoding (arXiv 2402.10200) asks for the K
likeliest first tokens of each prompt, then continues all of them at once; vLLM's cache holds each prompt once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlsf.errors import ModelError
from rlsf.models import configured_context_length, load_model_config
from rlsf.models.config import ModelConfig
from rlsf.models.facts import configured_eos_token_ids
from rlsf.models.folder import find_base, find_model
from rlsf.sampling.checking import check_branches, check_request
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.ending import Endings
from rlsf.sampling.engine import SamplingRequest, trace_strategy
from rlsf.sampling.randomness import derived_seed
from rlsf.sampling.vllm_process import VllmProcess
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import FinishReason, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Disparities look at the likeliest token and the second.
_LIKELIEST = 2


@dataclass(frozen=True, slots=True)
class Steps:
    """T tokens with their log-probabilities [T] and the L likeliest tokens of each step, [T, L], likeliest first."""

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]

    def beginning(self, rank: int) -> Steps:
        """The first step had it chosen the token of this rank."""
        return Steps(
            ids=self.top_ids[0, [rank]],
            logprobs=self.top_logprobs[0, [rank]],
            top_ids=self.top_ids[:1, :_LIKELIEST],
            top_logprobs=self.top_logprobs[:1, :_LIKELIEST],
        )


@dataclass(slots=True)
class _Row:
    """A trace to be: its first token is known where it is a branch, the rest once vLLM has answered."""

    request: SamplingRequest
    index: int
    steps: list[Steps] = field(default_factory=list)
    reason: FinishReason = "length"

    @property
    def token_ids(self) -> list[int]:
        return [int(token) for part in self.steps for token in part.ids]


class VllmEngine:
    """Samples from the model of ``config`` through vLLM; ``close`` ends the child process."""

    def __init__(self, config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer, folder = tokenizer, find_model(config)
        weights = find_base(folder, config) if folder.is_adapter else folder
        base = config.model_copy(update={"path": str(weights.path), "revision": None})
        model_config = load_model_config(base)
        self._vocabulary_size: int = model_config.get_text_config(decoder=True).vocab_size
        self._own_context = configured_context_length(model_config)
        self._eos_ids = configured_eos_token_ids(base, model_config, tokenizer)
        self._process = VllmProcess(config)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that the model's token ids belong to."""
        return self._tokenizer

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together: the smaller of the model's and vLLM's bound."""
        length = self._process.context_length
        return length if self._own_context is None else min(length, self._own_context)

    def close(self) -> None:
        """End vLLM; nothing can be sampled afterwards."""
        self._process.close()

    def sample(self, requests: Sequence[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        """The traces of each request, in the order of the requests; a trace's index is its place in the list.

        All requests are under way at once. Every draw has a seed of its own, of the request's seed, prompt and index.
        """
        for request in requests:
            check_request(request, self.context_length, self._vocabulary_size)
        check_branches(config, self._vocabulary_size)
        return self._sample(list(requests), config)

    def _sample(self, requests: list[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        rows = [_Row(request, index) for request in requests for index in range(config.branches)]
        endings = Endings(self._tokenizer, self._eos_ids, config.stop)
        if trace_strategy(config) == "cot_decoding":
            self._begin(rows, requests, config)
        self._continue([row for row in rows if endings.find(row.token_ids) is None], config)
        for start in range(0, len(rows), config.branches):
            yield [self._trace(row, config, endings) for row in rows[start : start + config.branches]]

    def _begin(self, rows: list[_Row], requests: list[SamplingRequest], config: SamplingConfig) -> None:
        """Give each row its first token: the K likeliest of its prompt (arXiv 2402.10200, section 2)."""
        likeliest = max(config.branches, _LIKELIEST)
        first = self._parameters(config, likeliest, room=1, seed=None)
        answers = self._process.generate([request.token_ids for request in requests], [first] * len(requests))
        for number, (request, answer) in enumerate(zip(requests, answers, strict=True)):
            steps = _steps(answer, likeliest, request.prompt_id)
            for rank, row in enumerate(rows[number * config.branches : (number + 1) * config.branches]):
                row.steps.append(steps.beginning(rank))

    def _continue(self, rows: list[_Row], config: SamplingConfig) -> None:
        """Sample the rest of the rows' tokens, where they have room for any."""
        greedy = config.strategy == "cot_decoding" and config.continuation == "greedy"
        rooms = [self._budget(row.request, config) - len(row.token_ids) for row in rows]
        rows, rooms = [row for row, room in zip(rows, rooms, strict=True) if room], [room for room in rooms if room]
        if not rows:
            return
        answers = self._process.generate(
            [[*row.request.token_ids, *row.token_ids] for row in rows],
            [
                self._parameters(
                    config,
                    _LIKELIEST,
                    room=room,
                    seed=None if greedy else derived_seed(row.request.seed, row.request.prompt_id, row.index),
                )
                for row, room in zip(rows, rooms, strict=True)
            ],
        )
        for row, answer in zip(rows, answers, strict=True):
            row.steps.append(_steps(answer, _LIKELIEST, row.request.prompt_id))
            if answer.finish_reason != "length":
                row.reason = "stop" if isinstance(answer.stop_reason, str) else "eos"

    def _budget(self, request: SamplingRequest, config: SamplingConfig) -> int:
        return min(config.max_new_tokens, self.context_length - len(request.token_ids))

    def _parameters(self, config: SamplingConfig, likeliest: int, *, room: int, seed: int | None) -> dict[str, Any]:
        """vLLM's ``SamplingParams``; greedy without a seed."""
        drawing = {
            "temperature": config.temperature,
            "top_p": config.top_p,
            "top_k": config.top_k,
            "min_p": config.min_p,
            "seed": seed,
        }
        return {
            "max_tokens": room,
            "logprobs": likeliest,
            "flat_logprobs": True,
            "ignore_eos": True,  # vLLM's own ids, of which ours are a superset
            "stop_token_ids": list(self._eos_ids),
            "stop": list(config.stop) or None,
            "detokenize": bool(config.stop),
            **({"temperature": 0.0} if seed is None else drawing),
        }

    def _trace(self, row: _Row, config: SamplingConfig, endings: Endings) -> Trace:
        ids = row.token_ids
        count, reason = endings.find(ids) or (len(ids), row.reason)
        return Trace(
            prompt_id=row.request.prompt_id,
            index=row.index,
            strategy=trace_strategy(config),
            prompt_token_ids=np.asarray(row.request.token_ids, dtype=np.int32),
            token_ids=np.asarray(ids[:count], dtype=np.int32),
            text=endings.text(ids[:count]),
            finish_reason=reason,
            statistics=self._statistics(row.steps)[:count],
        )

    def _statistics(self, steps: list[Steps]) -> TokenStatistics:
        tops = np.concatenate([part.top_logprobs for part in steps])
        return TokenStatistics.of_likeliest(
            logprob=np.concatenate([part.logprobs for part in steps]),
            top1_logprob=tops[:, 0],
            top2_logprob=tops[:, 1],
            top1_id=np.concatenate([part.top_ids[:, 0] for part in steps]),
            vocabulary_size=self._vocabulary_size,
        )


def _steps(answer: Any, likeliest: int, prompt_id: str) -> Steps:
    """What vLLM recorded of a completion: for each step the chosen token, then the likeliest ones.

    Ties go to the smaller id, as everywhere. Raises ``ModelError`` for log-probabilities that are not numbers.
    """
    ids = np.asarray(answer.logprobs.token_ids, dtype=np.int32).reshape(-1, 1 + likeliest)
    logprobs = np.asarray(answer.logprobs.logprobs, dtype=np.float32).reshape(-1, 1 + likeliest)
    if np.isnan(logprobs).any():
        step = int(np.isnan(logprobs).any(axis=1).argmax())
        raise ModelError(
            f"the model's logits for prompt {prompt_id!r} are not finite at new token {step}: check the weights, or"
            " load them in float32 or bfloat16 instead of float16"
        )
    logprobs = np.minimum(logprobs, np.float32(0.0))
    order = np.lexsort((ids[:, 1:], -logprobs[:, 1:]), axis=1)
    return Steps(
        ids=ids[:, 0],
        logprobs=logprobs[:, 0],
        top_ids=np.take_along_axis(ids[:, 1:], order, axis=1),
        top_logprobs=np.take_along_axis(logprobs[:, 1:], order, axis=1),
    )
