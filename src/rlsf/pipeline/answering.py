"""Answers found in freshly sampled traces: by their format, or by asking the model (the paper's way)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlsf.answers import Finding, find_answer
from rlsf.answers.config import AnswerConfig
from rlsf.answers.token_text import TokenText
from rlsf.sampling.engine import Engine
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
    findings = [
        find_answer(TokenText.from_ids(tokenizer, trace.token_ids), config, options) for trace, options in asked
    ]
    return [
        trace.with_answer(finding.answer, finding.failure) for (trace, _), finding in zip(asked, findings, strict=True)
    ]
