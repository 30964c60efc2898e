"""Answers found in freshly sampled traces: by their format, or by asking the model (the paper's way)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import TYPE_CHECKING

from rlsf.answers import Finding, find_answer
from rlsf.answers.config import AnswerConfig
from rlsf.answers.elicited import align, elicitation_ids
from rlsf.answers.token_text import TokenText
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import Engine, SamplingRequest
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Asked = tuple[Trace, Sequence[str]]


class CountingEngine:
    """An engine that counts the tokens it samples."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.tokens = 0

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._engine.tokenizer

    @property
    def context_length(self) -> int | None:
        return self._engine.context_length

    def sample(self, requests: Sequence[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        """As the engine does."""
        for traces in self._engine.sample(requests, config):
            self.tokens += sum(len(trace.token_ids) for trace in traces)
            yield traces


def find_answers(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[Sequence[Trace]],
    choices: Sequence[Sequence[str]],
    config: AnswerConfig,
) -> list[Trace]:
    """The traces of every prompt with their answers, or with the reason why there is none."""
    asked: list[Asked] = [(trace, options) for group, options in zip(groups, choices, strict=True) for trace in group]
    if config.format == "elicited":
        findings = _elicit(engine, tokenizer, asked, config)
    else:
        findings = [
            find_answer(TokenText.from_ids(tokenizer, trace.token_ids), config, options) for trace, options in asked
        ]
    return [
        # A trace that its engine could not read has no answer for that reason.
        trace if trace.failure else trace.with_answer(finding.answer, finding.failure)
        for (trace, _), finding in zip(asked, findings, strict=True)
    ]


def _elicit(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asked], config: AnswerConfig
) -> list[Finding]:
    """Append an answer prompt to every trace, let the model answer greedily, align the continuation to the trace.

    A trace so long that the context has no room for the answer prompt and one token more has no answer.
    """
    greedy = SamplingConfig(branches=1, max_new_tokens=config.elicited_tokens)
    requests = [
        SamplingRequest(
            trace.trace_id, elicitation_ids(tokenizer, trace.prompt_token_ids, trace.token_ids, config, options)
        )
        for trace, options in asked
    ]
    context = engine.context_length
    fits = [context is None or len(request.token_ids) < context for request in requests]
    continuations = iter(engine.sample(list(compress(requests, fits)), greedy))
    no_room = Finding(None, f"the context of {context} tokens has no room to ask for the answer")
    return [
        align(trace.token_ids, next(continuations)[0].token_ids, tokenizer, config.occurrence, options)
        if has_room
        else no_room
        for (trace, options), has_room in zip(asked, fits, strict=True)
    ]
