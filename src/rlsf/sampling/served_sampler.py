"""From requests to a server to traces: whole completions, or CoT-decoding's branches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlsf.errors import InputError
from rlsf.models.server_config import ServerConfig
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.connection import RefusedRequest, ServerConnection
from rlsf.sampling.ending import Endings
from rlsf.sampling.engine import SamplingRequest, trace_strategy
from rlsf.sampling.randomness import derived_seed
from rlsf.sampling.served_completion import (
    Position,
    ServedCompletion,
    UnclearTokens,
    identified,
    read_completion,
)
from rlsf.sampling.served_model import ServedModel
from rlsf.sampling.token_names import TokenNames, prompt_text
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import FinishReason, Trace

#: Disparities look at the likeliest token and the second.
_LIKELIEST = 2


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The first token of a branch, with the distribution that it comes from."""

    token_id: int
    position: Position


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedSampler:
    """One way of sampling from one server over one connection."""

    connection: ServerConnection
    server: ServerConfig
    served: ServedModel
    config: SamplingConfig
    names: TokenNames
    eos_ids: tuple[int, ...]
    vocabulary_size: int
    context_length: int | None

    async def traces(self, request: SamplingRequest) -> list[Trace]:
        """All traces of one prompt."""
        indices = range(self.config.branches)
        # The likeliest first token is that of greedy decoding, which costs no request of its own.
        greedy = self.config.branches == 1 and self.config.continuation == "greedy"
        if self.config.strategy == "sampling" or greedy:
            return list(await asyncio.gather(*(self._trace(request, index, None) for index in indices)))
        try:
            beginnings = await self._beginnings(request)
        except UnclearTokens as error:
            return [self._failed(request, index, str(error)) for index in indices]
        return list(await asyncio.gather(*(self._trace(request, index, beginnings[index]) for index in indices)))

    async def _beginnings(self, request: SamplingRequest) -> list[_Beginning]:
        """The K likeliest first tokens, likeliest first (arXiv 2402.10200, section 2)."""
        count = self.config.branches
        answer = await self._complete(request.token_ids, 1, likeliest=max(count, _LIKELIEST), greedy=True)
        if not answer.positions:
            raise UnclearTokens("the server returned no token, where it was asked for the first one")
        position = answer.positions[0]
        if len(position.likeliest) < count:
            raise InputError(
                f"{self.server.url} returned {len(position.likeliest)} of the {count} likeliest first tokens that"
                f" sampling.branches={count} asks for: lower it, or raise the server's limit (vLLM: --max-logprobs)"
            )
        ids = identified(position.likeliest[:count], self.names)
        return [
            _Beginning(token, Position(chosen, position.likeliest))
            for token, chosen in zip(ids, position.likeliest, strict=False)
        ]

    async def _trace(self, request: SamplingRequest, index: int, beginning: _Beginning | None) -> Trace:
        first = () if beginning is None else (beginning.token_id,)
        room = self._budget(request) - len(first)
        try:
            completion = None
            if room and self._endings.find(first) is None:
                greedy = self.config.strategy == "cot_decoding" and self.config.continuation == "greedy"
                seed = derived_seed(request.seed, request.prompt_id, index)
                ids = (*request.token_ids, *first)
                completion = await self._complete(ids, room, likeliest=_LIKELIEST, greedy=greedy, seed=seed)
            return self._assemble(request, index, beginning, completion)
        except UnclearTokens as error:
            return self._failed(request, index, str(error))

    def _budget(self, request: SamplingRequest) -> int:
        if self.context_length is None:
            return self.config.max_new_tokens
        return min(self.config.max_new_tokens, self.context_length - len(request.token_ids))

    async def _complete(
        self, token_ids: Sequence[int], room: int, *, likeliest: int, greedy: bool, seed: int = 0
    ) -> ServedCompletion:
        """One request; raises ``InputError`` that names the limit where the server refuses so many likely tokens."""
        # Stop strings are looked for in what comes back as well; where the server would lose tokens, only there.
        stop = list(self.config.stop) if self.served.keeps_stop_tokens else []
        body = {
            "model": self.served.name,
            "prompt": self._prompt(token_ids),
            "max_tokens": room,
            "n": 1,
            "stream": False,
            "logprobs": likeliest,
            **({"stop": stop} if stop else {}),
            **self.served.fields(self.config, greedy=greedy, seed=seed),
        }
        try:
            return read_completion(await self.connection.request("completions", body), self.server.url)
        except RefusedRequest as error:
            if likeliest > _LIKELIEST and "logprob" in error.reason.lower():
                raise InputError(
                    f"{self.server.url} does not return the {likeliest} likeliest first tokens that"
                    f" sampling.branches={likeliest} asks for ({error.reason}): lower it, or raise the server's limit"
                    " (vLLM: --max-logprobs)"
                ) from error
            raise

    def _prompt(self, token_ids: Sequence[int]) -> list[int] | str:
        if self.server.prompts == "ids":
            return list(token_ids)
        text = prompt_text(self.names.tokenizer, token_ids)
        if text is None:
            raise UnclearTokens("the first token and the prompt have no text that encodes to their ids")
        return text

    def _assemble(
        self, request: SamplingRequest, index: int, beginning: _Beginning | None, completion: ServedCompletion | None
    ) -> Trace:
        ids = [] if beginning is None else [beginning.token_id]
        positions = [] if beginning is None else [beginning.position]
        if completion is not None:
            ids += completion.ids(self.names)
            positions += completion.positions
        end = self._endings.find(ids)
        count, reason = end or (len(ids), self._reason(completion))
        ids, positions = ids[:count], positions[:count]
        return Trace(
            prompt_id=request.prompt_id,
            index=index,
            strategy=trace_strategy(self.config),
            prompt_token_ids=np.asarray(request.token_ids, dtype=np.int32),
            token_ids=np.asarray(ids, dtype=np.int32),
            text=self._endings.text(ids),
            finish_reason=reason,
            statistics=self._statistics(ids, positions),
        )

    @property
    def _endings(self) -> Endings:
        return Endings(self.names.tokenizer, self.eos_ids, self.config.stop)

    def _reason(self, completion: ServedCompletion | None) -> FinishReason:
        """Why a completion ends of which no token tells: servers may keep the last one to themselves."""
        if completion is None or completion.finish_reason == "length":
            return "length"
        if completion.finish_reason != "stop":
            raise UnclearTokens(f"the server ended it with finish_reason {completion.finish_reason!r}")
        return "stop" if isinstance(completion.stop_reason, str) else "eos"

    def _statistics(self, ids: Sequence[int], positions: Sequence[Position]) -> TokenStatistics:
        outside = [token for token in ids if not 0 <= token < self.vocabulary_size]
        if outside:
            raise InputError(
                f"{self.server.url} returned token id {outside[0]}, outside the vocabulary of {self.vocabulary_size}:"
                " set model.path to the model that is served"
            )
        tops = [position.likeliest[0] for position in positions]
        top_ids = [
            token if top.token_id is None and top.name == position.chosen.name else identified([top], self.names)[0]
            for token, top, position in zip(ids, tops, positions, strict=True)
        ]
        return TokenStatistics.of_likeliest(
            logprob=[position.chosen.logprob for position in positions],
            top1_logprob=[top.logprob for top in tops],
            top2_logprob=[position.likeliest[1].logprob for position in positions],
            top1_id=top_ids,
            vocabulary_size=self.vocabulary_size,
        )

    def _failed(self, request: SamplingRequest, index: int, reason: str) -> Trace:
        return Trace(
            prompt_id=request.prompt_id,
            index=index,
            strategy=trace_strategy(self.config),
            prompt_token_ids=np.asarray(request.token_ids, dtype=np.int32),
            token_ids=np.zeros(0, dtype=np.int32),
            text="",
            finish_reason="stop",
            statistics=TokenStatistics.missing(0, self.vocabulary_size),
            failure=reason,
        )
