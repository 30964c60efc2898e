"""RLSF's confidence as an online reward, on distributions worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.rewards import AnswerConfidence, TraceConfidence
from rlsf.tokenstats import TokenStatistics
from rlsf.tokenstats.from_logits import statistics_of_logits

WORDS = {"<unk>": 0, "<eos>": 1, "the": 2, "answer": 3, "is": 4, "7": 5, "8": 6}
#: "the answer is 7 <eos>", "is 8 <eos>" and "the answer"
COMPLETIONS = [[2, 3, 4, 5, 1], [4, 6, 1], [2, 3]]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel(WORDS, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>")


def sure_of(ids: list[int], answer: float) -> TokenStatistics:
    """Every token had probability 0.4, next to 0.3; a digit had ``answer``, next to all the rest."""
    rows = torch.full((len(ids), len(WORDS)), 0.3 / (len(WORDS) - 2))
    for row, token in enumerate(ids):
        rows[row, token], rows[row, (token + 1) % len(WORDS)] = 0.4, 0.3
        if token in (WORDS["7"], WORDS["8"]):
            rows[row] = 1e-9
            rows[row, token], rows[row, 0] = answer, 1 - answer
    return statistics_of_logits(rows.log(), torch.tensor(ids)).to_token_statistics(len(WORDS))


def test_the_disparity_of_the_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    statistics = [sure_of(ids, answer) for ids, answer in zip(COMPLETIONS, (0.9, 0.75, 0.5), strict=True)]
    logged: dict[str, float] = {}
    rewards = AnswerConfidence(tokenizer)(COMPLETIONS, policy_statistics=statistics, log_metric=logged.__setitem__)
    assert rewards == pytest.approx([0.8, 0.5, 0.0], abs=1e-5)
    assert logged == {"answers/missing": pytest.approx(1 / 3)}
    left_out = AnswerConfidence(tokenizer, without_answer=None)(COMPLETIONS, policy_statistics=statistics)
    assert left_out[2] is None


def test_another_signal_and_the_reasoning(tokenizer: PreTrainedTokenizerFast) -> None:
    statistics = [sure_of(ids, 0.9) for ids in COMPLETIONS[:2]]
    reward = AnswerConfidence(tokenizer, signal="mean_logprob")
    [first, _] = reward(COMPLETIONS[:2], policy_statistics=statistics)
    assert first == pytest.approx(math.exp((4 * math.log(0.4) + math.log(0.9)) / 5), abs=1e-5)
    sure, unsure = (sure_of(COMPLETIONS[0], answer) for answer in (0.99, 0.55))
    rewards = TraceConfidence(tokenizer)(COMPLETIONS[:1] * 2, policy_statistics=[sure, unsure])
    assert rewards[0] is not None
    assert rewards[1] is not None
    assert 0.0 <= rewards[1] <= rewards[0] <= 1.0
    assert rewards != AnswerConfidence(tokenizer)(COMPLETIONS[:1] * 2, policy_statistics=[sure, unsure])


def test_answers_that_must_be_asked_for(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="elicited"):
        AnswerConfidence(tokenizer, answer=AnswerConfig(format="elicited"))
