"""Asking the model for its answers leaves no trace in what is trained on: prompt and ids are those sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from ranked_traces import trace_for
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlsf.answers import TokenText
from rlsf.answers.config import AnswerConfig
from rlsf.pipeline.answering import find_answers
from rlsf.preferences import RankingConfig, rank
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import SamplingRequest
from rlsf.traces import Trace

WORDS = ["<unk>", "</s>", "so", "we", "get", "7", "8", "is", "it", "Thus", "the", "answer", ":"]
CONFIG = AnswerConfig(format="elicited", prompt="\nThus the answer :")
ELICITED = ("Thus", "answer")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>", pad_token="</s>")


class LastNumberEngine:
    """Answers every request with the last number in it, and remembers what it was asked."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, context_length: int | None = None) -> None:
        self.context_length = context_length
        self.asked: list[str] = []
        self._tokenizer = tokenizer

    def sample(self, requests: Sequence[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        assert (config.branches, config.max_new_tokens) == (1, CONFIG.elicited_tokens)
        for request in requests:
            self.asked.append(TokenText.from_ids(self._tokenizer, request.token_ids).text)
            numbers = [token for token in request.token_ids if WORDS[token].isdigit()]
            yield [trace_for(0, None, request.prompt_id, numbers[-1:] or [WORDS.index("it")])]


def sampled(tokenizer: PreTrainedTokenizerFast, *texts: str) -> list[Trace]:
    """Traces in which no answer was looked for yet."""
    traces = [trace_for(i, None, tokens=tokenizer.encode(f"{text} </s>")) for i, text in enumerate(texts)]
    return [trace.with_answer(None) for trace in traces]


def test_pairs_hold_the_sampled_ids_and_no_answer_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    traces = sampled(tokenizer, "so we get 7", "so it is 8", "so we get it")
    engine = LastNumberEngine(tokenizer)
    answered = find_answers(engine, tokenizer, [traces], [()], CONFIG)
    # Asked after the prompt (7) and the trace.
    assert engine.asked[0] == "7 so we get 7 Thus the answer :"
    assert [trace.answer and (trace.answer.text, trace.answer.start, trace.answer.end) for trace in answered] == [
        ("7", 3, 4),
        ("8", 3, 4),
        None,
    ]
    confidences = [[0.95, 0.2, None]]
    table, report = rank([answered], confidences, RankingConfig(without_answer="reject"), {"p": "7"})
    assert report.without_answer == 1
    rows = table.to_pylist()
    assert [(row["chosen_trace_id"], row["rejected_trace_id"]) for row in rows] == [("p#0", "p#2"), ("p#0", "p#1")]
    for row in rows:
        assert row["prompt_ids"] == [1, 5]
        for side in ("chosen", "rejected"):
            original = traces[int(row[f"{side}_trace_id"][-1])]
            assert row[f"{side}_ids"] == original.token_ids.tolist()
            assert row[side] == original.text
            trained = TokenText.from_ids(tokenizer, row[f"{side}_ids"]).text
            assert not any(word in trained for word in ELICITED)


def test_a_trace_that_fills_the_context_cannot_be_asked(tokenizer: PreTrainedTokenizerFast) -> None:
    traces = sampled(tokenizer, "so we get 7", "so so so we get 7", "it is 7")
    # Prompt 2, traces of 4, 6 and 3 tokens, answer prompt 4: 10, 12 and 9 of 11, which must leave one to answer with.
    answered = find_answers(LastNumberEngine(tokenizer, 11), tokenizer, [traces], [()], CONFIG)
    assert [trace.answer is not None for trace in answered] == [True, False, True]
    assert answered[1].failure == "the context of 11 tokens has no room to ask for the answer"
    for before, after in zip(traces, answered, strict=True):
        np.testing.assert_array_equal(before.token_ids, after.token_ids)
