"""Every architecture: the numbers of its ordinary logits, padded on any side and over shared prompts."""

from __future__ import annotations

from functools import cache
from typing import Literal

import pytest
import torch
from architectures import CONFIGURATIONS, VOCABULARY, WITHOUT_SHARING, tiny_model
from example_traces import assert_statistics, groups_of_traces, ordinary_logits, tokens
from float64_reference import assert_matches
from torch import Tensor
from transformers import PreTrainedModel

from rlsf.scoring import Scorer
from rlsf.scoring.self_check import verdict_on

TOLERANCE = 2e-5
#: Prompt and completion of each row: of all lengths, an empty completion among them.
ROWS = [
    (tokens(prompt, prompt), tokens(completion, 50 + completion)) for prompt, completion in ((7, 9), (3, 4), (5, 0))
]


@cache
def scorer_of(name: str) -> Scorer:
    return Scorer(tiny_model(name))


def padded(side: Literal["left", "right", "both"]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and keep, with the prompts' ends in one column where padded on both sides."""
    ids, mask, keep = (torch.zeros(len(ROWS), 21, dtype=torch.long) for _ in range(3))
    for row, (prompt, completion) in enumerate(ROWS):
        length = len(prompt) + len(completion)
        start = {"right": 0, "left": 21 - length, "both": 10 - len(prompt)}[side]
        ids[row, start : start + length] = torch.tensor(prompt + completion)
        mask[row, start : start + length] = 1
        keep[row, start + len(prompt) : start + length] = 1
    return ids, mask, keep.bool()


def expected_logits(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    logits = torch.cat([ordinary_logits(model, *row) for row in ROWS if row[1]])
    return logits, torch.tensor([token for _, completion in ROWS for token in completion])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_statistics_without_logits_are_those_of_the_logits(name: str) -> None:
    scorer = scorer_of(name)
    assert scorer.way == "fused", scorer.reason
    logits, ids = expected_logits(scorer.model)
    assert logits.softmax(-1).amax() > 10 / VOCABULARY, "the distributions must not be near uniform"
    for side in ("right", "left", "both"):
        assert_matches(scorer.statistics(*padded(side)), logits, ids, TOLERANCE)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_traces_of_a_prompt_are_scored_as_each_alone(name: str) -> None:
    scorer = scorer_of(name)
    assert verdict_on(scorer._causal).shares_prompts == (name not in WITHOUT_SHARING)
    for scored in scorer.score(groups_of_traces(prompts=[6, 9, 3], completions=[1, 12, 5])):
        assert_statistics(scored, scorer.model, TOLERANCE)
