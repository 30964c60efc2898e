"""A server of your own against the model in this process: say its address in RLSF_TEST_SERVER.

vllm serve src/rlsf/demo/sums-1m --dtype float32 --enforce-eager --port 8123
RLSF_TEST_SERVER=http://localhost:8123/v1 pytest -n 0 tests/sampling/test_real_server.py
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest

from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError
from rlsf.models import ModelConfig, load_model, load_tokenizer
from rlsf.sampling import OpenAIEngine, SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.scoring import Scorer
from rlsf.traces import Trace

URL = os.environ.get("RLSF_TEST_SERVER")
QUESTIONS = (
    "Q: Tom has 12 apples and buys 30 more. How many apples does he have?\nA:",
    "Q: What is 7 + 8 - 3?\nA:",
    "Q: Anna has 40 books. She gives away 15. How many are left?\n(A) 25\n(B) 30\n(C) 15\n(D) 55\nA:",
    "Q: 5 + 5?\nA:",
)
pytestmark = pytest.mark.skipif(URL is None, reason="RLSF_TEST_SERVER names no server")


@pytest.fixture(scope="module")
def local() -> TransformersEngine:
    config = ModelConfig(path=str(MODEL_DIR))
    return TransformersEngine(load_model(config), load_tokenizer(config))


@pytest.fixture(scope="module")
def served() -> OpenAIEngine:
    config = ModelConfig.model_validate({"path": str(MODEL_DIR), "server": {"url": URL}})
    return OpenAIEngine(config, load_tokenizer(config))


@pytest.fixture(scope="module")
def requests(local: TransformersEngine) -> list[SamplingRequest]:
    return [
        SamplingRequest(f"q{number}", tuple(local.tokenizer.encode(question)), seed=3)
        for number, question in enumerate(QUESTIONS)
    ]


def facts(groups: Sequence[Sequence[Trace]]) -> list[tuple]:
    return [
        (trace.trace_id, trace.token_ids.tolist(), trace.text, trace.finish_reason, trace.failure)
        for trace in chain(*groups)
    ]


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(branches=1, max_new_tokens=64),
        SamplingConfig(branches=6, max_new_tokens=64),
        SamplingConfig(branches=3, max_new_tokens=64, stop=(".", "so")),
    ],
    ids=["greedy", "branches", "stop"],
)
def test_traces_are_those_of_the_model_in_this_process(
    served: OpenAIEngine, local: TransformersEngine, requests: list[SamplingRequest], config: SamplingConfig
) -> None:
    theirs, ours = list(served.sample(requests, config)), list(local.sample(requests, config))
    assert facts(theirs) == facts(ours)
    for one, other in zip(chain(*theirs), chain(*ours), strict=True):
        for name in ("logprob", "top1_logprob", "top2_logprob", "disparity"):
            np.testing.assert_allclose(getattr(one.statistics, name), getattr(other.statistics, name), atol=1e-3)
        assert one.statistics.top1_id.tolist() == other.statistics.top1_id.tolist()


def test_drawn_traces_have_probabilities_of_temperature_one_and_repeat(
    served: OpenAIEngine, local: TransformersEngine, requests: list[SamplingRequest]
) -> None:
    config = SamplingConfig(strategy="sampling", branches=4, max_new_tokens=48, temperature=0.7, top_p=0.9)
    traces = list(served.sample(requests, config))
    assert facts(traces) == facts(list(served.sample(requests, config)))
    assert len({tuple(trace.token_ids) for trace in chain(*traces)}) > len(QUESTIONS)
    scored = Scorer(local.model, local.tokenizer).score(chain(*traces))
    for one, other in zip(chain(*traces), scored, strict=True):
        np.testing.assert_allclose(one.statistics.logprob, other.statistics.logprob, atol=1e-3)


def test_more_branches_than_it_returns_are_refused_in_one_line(
    served: OpenAIEngine, requests: list[SamplingRequest]
) -> None:
    with pytest.raises(InputError, match=r"sampling\.branches=500"):
        list(served.sample(requests, SamplingConfig(branches=500, max_new_tokens=2)))
