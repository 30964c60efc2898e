"""RLSF's confidence as an online reward: how sure the policy was of the answer, or of the reasoning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlsf.answers import TokenText, find_answer
from rlsf.answers.config import AnswerConfig
from rlsf.confidence import get_signal
from rlsf.rewards.policy_reward import PolicyReward
from rlsf.rewards.said import readable
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class AnswerConfidence(PolicyReward):
    """The confidence of a trace in [0, 1] by a signal of ``rlsf.confidence``, at temperature 1.

    By default the disparity over the tokens of the answer (arXiv 2507.21931). Answers are found as ``answer`` says, by
    the options of a column ``choices`` where the data have one. A completion without an answer has no confidence;
    ``without_answer`` is its reward, and None leaves it out of the update. The share of such completions is logged as
    ``answers/missing``.
    """

    signal_name = "answer_disparity"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        answer: AnswerConfig | None = None,
        signal: str | None = None,
        without_answer: float | None = 0.0,
    ) -> None:
        super().__init__(temperature="raw")
        self.answer = readable(answer or AnswerConfig())
        self.signal = get_signal(signal or self.signal_name)
        self.tokenizer, self.without_answer = tokenizer, without_answer

    def rewards(
        self,
        statistics: Sequence[TokenStatistics],
        completion_ids: Sequence[Sequence[int]],
        choices: Sequence[Sequence[str] | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        options = choices or [None] * len(completion_ids)
        found = [
            self._confidence(tokens, ids, of_row or ())
            for tokens, ids, of_row in zip(statistics, completion_ids, options, strict=True)
        ]
        if "log_metric" in columns and found:
            columns["log_metric"]("answers/missing", found.count(None) / len(found))
        return [self.without_answer if confidence is None else confidence for confidence in found]

    def _confidence(self, tokens: TokenStatistics, ids: Sequence[int], choices: Sequence[str]) -> float | None:
        text = TokenText.from_ids(self.tokenizer, ids)
        finding = find_answer(text, self.answer, choices)
        trace = Trace(
            prompt_id="completion",
            index=0,
            strategy="sampling",
            prompt_token_ids=np.empty(0, dtype=np.int32),
            token_ids=np.asarray(ids, dtype=np.int32),
            text=text.text,
            finish_reason="stop",
            statistics=tokens,
            answer=finding.answer,
            failure=finding.failure,
        )
        return None if finding.answer is None else self.signal.confidence(trace, text.pieces)


class TraceConfidence(AnswerConfidence):
    """As ``AnswerConfidence``, by ``trace_confidence``: how sure the policy was of its reasoning (docs/signals.md)."""

    signal_name = "trace_confidence"
