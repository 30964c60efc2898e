"""A real server against the model in this process: vLLM's, where it is installed (`make conformance`), or your own.

llama-server -m sums-1m.gguf --port 8123 -ctk f32 -ctv f32 -fa off      (its cache is float16 otherwise)
RLSF_TEST_SERVER=http://localhost:8123/v1 pytest -n 0 tests/sampling/test_real_server.py
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import httpx
import numpy as np
import pytest

from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError
from rlsf.models import ModelConfig, load_model, load_tokenizer
from rlsf.sampling import OpenAIEngine, SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.scoring import Scorer
from rlsf.traces import Trace

QUESTIONS = (
    "Q: Tom has 12 apples and buys 30 more. How many apples does he have?\nA:",
    "Q: What is 7 + 8 - 3?\nA:",
    "Q: Anna has 40 books. She gives away 15. How many are left?\n(A) 25\n(B) 30\n(C) 15\n(D) 55\nA:",
    "Q: 5 + 5?\nA:",
)
#: Seconds until vLLM serves: it imports itself three times.
START_UP = 600


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    named = os.environ.get("RLSF_TEST_SERVER")
    if named is None and find_spec("vllm") is None:
        pytest.skip("RLSF_TEST_SERVER names no server, and vLLM is not installed: make conformance")
    if named is not None:
        yield named
        return
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = ("--host", "127.0.0.1", "--port", str(port))
    options = ("--model", str(MODEL_DIR), "--dtype", "float32", "--enforce-eager", "--max-model-len", "512")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options, *address]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        yield _serving(f"http://127.0.0.1:{port}/v1", process, log)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _serving(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """``url`` once something answers there."""
    deadline = time.monotonic() + START_UP
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            if httpx.get(f"{url}/models").status_code == 200:
                return url
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise AssertionError(f"no server after {START_UP} s: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def local() -> TransformersEngine:
    config = ModelConfig(path=str(MODEL_DIR))
    return TransformersEngine(load_model(config), load_tokenizer(config))


@pytest.fixture(scope="module")
def served(url: str) -> OpenAIEngine:
    config = ModelConfig.model_validate({"path": str(MODEL_DIR), "server": {"url": url}})
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
    served: OpenAIEngine, requests: list[SamplingRequest], url: str
) -> None:
    if "llamacpp" in httpx.get(f"{url}/models").text:
        pytest.skip("llama.cpp returns the whole vocabulary")
    with pytest.raises(InputError, match=r"sampling\.branches=500"):
        list(served.sample(requests, SamplingConfig(branches=500, max_new_tokens=2)))
