"""Answers found in freshly sampled traces: by their format, or by asking the model (the paper's way)."""

from __future__ import annotations

from collections.abc import Sequence
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
        trace.with_answer(finding.answer, finding.failure) for (trace, _), finding in zip(asked, findings, strict=True)
    ]


def _elicit(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asked], config: AnswerConfig
) -> list[Finding]:
    """Append an answer prompt to every trace, let the model answer greedily, align the continuation to the trace."""
    greedy = SamplingConfig(branches=1, max_new_tokens=config.elicited_tokens)
    requests = [
        SamplingRequest(
            trace.trace_id, elicitation_ids(tokenizer, trace.prompt_token_ids, trace.token_ids, config, options)
        )
        for trace, options in asked
    ]
    return [
        align(trace.token_ids, continuation[0].token_ids, tokenizer, config.occurrence, options)
        for (trace, options), continuation in zip(asked, engine.sample(requests, greedy), strict=True)
    ]
