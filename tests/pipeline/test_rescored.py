"""Whole distributions for engines that record likeliest tokens alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlsf.demo import MODEL_DIR
from rlsf.models import ModelConfig, load_model, load_tokenizer
from rlsf.pipeline.rescored import Rescored, is_rescored
from rlsf.recipes.resolve import resolve
from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.tokenstats import STATISTIC_NAMES, TokenStatistics
from rlsf.traces import Trace

CONFIG = ModelConfig(path=str(MODEL_DIR), device="cpu", engine="vllm")


class LikeliestAlone:
    """An engine that keeps to itself what vLLM does not tell."""

    def __init__(self) -> None:
        self.engine = TransformersEngine(load_model(CONFIG.by_transformers), load_tokenizer(CONFIG))
        self.tokenizer, self.context_length = self.engine.tokenizer, self.engine.context_length

    def sample(self, requests: Sequence[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        for group in self.engine.sample(requests, config):
            yield [replace(trace, statistics=self._poorer(trace.statistics)) for trace in group]

    def _poorer(self, full: TokenStatistics) -> TokenStatistics:
        names = ("logprob", "top1_logprob", "top2_logprob", "top1_id")
        return TokenStatistics.of_likeliest(
            **{name: getattr(full, name) for name in names}, vocabulary_size=full.vocabulary_size
        )


def test_statistics_are_those_of_an_engine_that_sees_whole_distributions() -> None:
    poor = LikeliestAlone()
    requests = [
        SamplingRequest(f"q{number}", tuple(poor.tokenizer.encode(f"Question: {number} + 5?\nAnswer:")), seed=1)
        for number in range(3)
    ]
    sampling = SamplingConfig(branches=3, max_new_tokens=10)
    rescored = Rescored(poor, CONFIG)
    groups, expected = list(rescored.sample(requests, sampling)), list(poor.engine.sample(requests, sampling))
    assert [[trace.trace_id for trace in group] for group in groups] == [
        [trace.trace_id for trace in group] for group in expected
    ]
    for group, same in zip(groups, expected, strict=True):
        for trace, other in zip(group, same, strict=True):
            assert trace.token_ids.tolist() == other.token_ids.tolist()
            for name in STATISTIC_NAMES:
                np.testing.assert_allclose(
                    getattr(trace.statistics, name), getattr(other.statistics, name), atol=2e-4, err_msg=name
                )
    assert list(rescored.sample([], sampling)) == []


@pytest.mark.parametrize(
    ("signal", "engine", "expected"),
    [
        ("answer_disparity", "vllm", False),
        ("mean_logprob", "vllm", False),
        ("self_certainty", "vllm", True),
        ("answer_entropy", "vllm", True),
        ("self_certainty", "transformers", False),
    ],
)
def test_a_pass_is_made_where_the_signal_asks_for_it(signal: str, engine: Any, expected: bool) -> None:
    recipe = resolve("rlsf", None, {"signal": signal, "model": {"path": str(MODEL_DIR), "engine": engine}})
    assert is_rescored(recipe.model, recipe) == expected
