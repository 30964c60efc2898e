"""The engine over a server, against the engine in this process, on the bundled model and over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
from completion_server import CompletionServer, ServedPolicy
from transformers import AutoModelForCausalLM

from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError
from rlsf.models import ModelConfig, load_tokenizer
from rlsf.sampling import OpenAIEngine, SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.tokenstats.statistics import UNSERVED
from rlsf.traces import Trace

QUESTIONS = (
    "Question: What is 12 + 30?\nAnswer:",
    "Question: What is 7 + 8 - 3?\nAnswer:",
    "Question: 5 + 5?\nAnswer:",
)
GREEDY = SamplingConfig(branches=1, max_new_tokens=40)
BRANCHES = SamplingConfig(branches=4, max_new_tokens=30)
DRAWN = SamplingConfig(strategy="sampling", branches=3, max_new_tokens=20, temperature=0.8)


@pytest.fixture(scope="module")
def policy() -> ServedPolicy:
    return ServedPolicy(MODEL_DIR)


@pytest.fixture(scope="module")
def local() -> TransformersEngine:
    config = ModelConfig(path=str(MODEL_DIR))
    return TransformersEngine(AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval(), load_tokenizer(config))


@pytest.fixture(scope="module")
def requests(local: TransformersEngine) -> list[SamplingRequest]:
    return [
        SamplingRequest(f"q{number}", tuple(local.tokenizer.encode(question)), seed=3)
        for number, question in enumerate(QUESTIONS)
    ]


@pytest.fixture
def sample(requests: list[SamplingRequest]) -> Callable[..., list[list[Trace]]]:
    def run(server: CompletionServer, config: SamplingConfig, **options: Any) -> list[list[Trace]]:
        return list(engine(server, **options).sample(requests, config))

    return run


def engine(server: CompletionServer, **options: Any) -> OpenAIEngine:
    options = {"backoff": 0.0, "timeout": 20.0, **options}
    config = ModelConfig.model_validate({"path": str(MODEL_DIR), "server": {"url": server.url, **options}})
    return OpenAIEngine(config, load_tokenizer(config))


def require_same(served: Sequence[Sequence[Trace]], local: Sequence[Sequence[Trace]]) -> None:
    assert [len(group) for group in served] == [len(group) for group in local]
    for one, other in zip(chain(*served), chain(*local), strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        facts = ("trace_id", "strategy", "text", "finish_reason", "failure")
        assert [getattr(one, fact) for fact in facts] == [getattr(other, fact) for fact in facts]
        assert one.statistics.top1_id.tolist() == other.statistics.top1_id.tolist()
        for name in ("logprob", "top1_logprob", "top2_logprob", "disparity", "top_gap"):
            np.testing.assert_allclose(getattr(one.statistics, name), getattr(other.statistics, name), atol=2e-4)
        for name in UNSERVED:
            assert np.isnan(getattr(one.statistics, name)).all()


@pytest.mark.parametrize("shape", ["vllm", "llama.cpp", "text"])
@pytest.mark.parametrize("config", [GREEDY, BRANCHES], ids=["greedy", "branches"])
def test_traces_are_those_of_the_model_in_this_process(
    policy: ServedPolicy,
    local: TransformersEngine,
    requests: list,
    sample: Callable,
    shape: str,
    config: SamplingConfig,
) -> None:
    with CompletionServer(policy, shape=shape) as server:
        require_same(sample(server, config), list(local.sample(requests, config)))


def test_prompts_as_text_are_read_as_the_same_ids(
    policy: ServedPolicy, local: TransformersEngine, requests: list, sample: Callable
) -> None:
    with CompletionServer(policy, shape="text") as server:
        require_same(sample(server, GREEDY, prompts="text"), list(local.sample(requests, GREEDY)))
        assert {type(body["prompt"]) for body in server.bodies} == {str}


@pytest.mark.parametrize("shape", ["vllm", "llama.cpp"])
def test_a_stop_string_ends_a_branch_with_the_token_that_completes_it(
    policy: ServedPolicy, local: TransformersEngine, requests: list, sample: Callable, shape: str
) -> None:
    whole = [trace.text for group in local.sample(requests, BRANCHES) for trace in group]
    # The first two characters of a trace: its first token may hold one of them, of which the server knows nothing.
    config = BRANCHES.model_copy(update={"stop": (whole[0][:2], whole[-1][5:8])})
    with CompletionServer(policy, shape=shape) as server:
        served, expected = sample(server, config), list(local.sample(requests, config))
    require_same(served, expected)
    assert "stop" in {trace.finish_reason for group in served for trace in group}


@pytest.mark.parametrize("budget", [1, 2])
def test_small_budgets_cut_as_in_this_process(
    policy: ServedPolicy, local: TransformersEngine, requests: list, sample: Callable, budget: int
) -> None:
    config = BRANCHES.model_copy(update={"max_new_tokens": budget})
    with CompletionServer(policy) as server:
        require_same(sample(server, config), list(local.sample(requests, config)))


def test_draws_depend_on_nothing_but_seed_prompt_and_index(policy: ServedPolicy, sample: Callable) -> None:
    with CompletionServer(policy) as server:
        alone = sample(server, DRAWN, concurrency=1)
    with CompletionServer(policy, slow=True) as server:
        together = sample(server, DRAWN, concurrency=9)
    for one, other in zip(chain(*alone), chain(*together), strict=True):
        assert (one.trace_id, one.token_ids.tolist()) == (other.trace_id, other.token_ids.tolist())
    assert len({tuple(trace.token_ids) for trace in chain(*alone)}) > len(QUESTIONS)
    assert len({body["seed"] for body in server.bodies}) == len(server.bodies) == 3 * len(QUESTIONS)


def test_recorded_probabilities_are_of_temperature_one(
    policy: ServedPolicy, local: TransformersEngine, requests: list, sample: Callable
) -> None:
    from rlsf.scoring import Scorer

    with CompletionServer(policy) as server:
        traces = sample(server, DRAWN)[0]
    scored = Scorer(local.model, local.tokenizer).score(iter(traces))
    for trace, own in zip(traces, scored, strict=True):
        np.testing.assert_allclose(trace.statistics.logprob, own.statistics.logprob, atol=2e-4)


def test_requests_say_all_that_a_server_would_add_by_itself(policy: ServedPolicy, sample: Callable) -> None:
    config = DRAWN.model_copy(update={"top_p": 0.9, "top_k": 7, "min_p": 0.01, "stop": ("\n\n",)})
    with CompletionServer(policy) as server:
        sample(server, config)
    body = server.bodies[0]
    assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"]) == (0.8, 0.9, 7, 0.01)
    assert (body["repetition_penalty"], body["n"], body["stop"], body["model"]) == (1.0, 1, ["\n\n"], "policy")
    with CompletionServer(policy, shape="text") as server:
        sample(server, GREEDY)
    assert not {"top_k", "min_p", "repetition_penalty", "seed"} & set(server.bodies[0])


def test_a_hidden_end_of_sequence_is_still_an_end(
    policy: ServedPolicy, local: TransformersEngine, sample: Callable
) -> None:
    with CompletionServer(policy) as server:
        whole = sample(server, GREEDY)
    with CompletionServer(policy, hides_end=True) as server:
        hidden = sample(server, GREEDY)
    ended = [(one, other) for [one], [other] in zip(whole, hidden, strict=True) if one.finish_reason == "eos"]
    assert ended
    for one, other in ended:
        assert other.finish_reason == "eos"
        assert other.token_ids.tolist() == one.token_ids.tolist()[:-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"largest": 3}, "does not return the 4 likeliest first tokens that sampling.branches=4 asks for (Requested"),
        ({"cut": 3}, "returned 3 of the 4 likeliest first tokens"),
        ({"cut": 1}, "malformed log-probabilities"),
        ({"models": {"data": []}}, "lists no model"),
        ({"models": {"data": [{"id": "a"}, {"id": "b"}]}}, "serves several models: choose one"),
        ({"models": {"data": [{"id": "a", "max_model_len": 5}]}}, "the model's context 5"),
        ({"models": {"data": [{"id": "a", "meta": {"n_ctx": 5}}]}}, "the model's context 5"),
    ],
)
def test_what_a_server_cannot_do_is_one_line(
    policy: ServedPolicy, sample: Callable, options: dict[str, Any], said: str
) -> None:
    with CompletionServer(policy, **options) as server, pytest.raises(InputError) as raised:
        sample(server, BRANCHES)
    assert said in str(raised.value)


def test_a_wrong_name_is_told_with_the_right_ones(policy: ServedPolicy, sample: Callable) -> None:
    with (
        CompletionServer(policy) as server,
        pytest.raises(InputError, match=r"did you mean 'policy'.*there are: policy"),
    ):
        sample(server, GREEDY, model="polcy")


def test_processed_log_probabilities_are_refused_where_they_differ(policy: ServedPolicy, sample: Callable) -> None:
    with CompletionServer(policy) as server:
        with pytest.raises(InputError, match=r"model\.server\.logprobs=processed"):
            sample(server, DRAWN, logprobs="processed")
        assert server.bodies == []
        sample(server, DRAWN.model_copy(update={"temperature": 1.0}), logprobs="processed")
        sample(server, GREEDY, logprobs="processed")


def test_a_key_is_sent_and_its_absence_explained(
    policy: ServedPolicy, sample: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    with CompletionServer(policy, key="secret") as server:
        assert sample(server, GREEDY, api_key_variable="MY_KEY")
        with pytest.raises(InputError, match=r"Unauthorized \(status 401\).*model.server.api_key_variable"):
            sample(server, GREEDY)
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(InputError, match=r"MY_KEY.*holds no API key"):
            sample(server, GREEDY, api_key_variable="MY_KEY")


async def _within_a_loop(run: Callable[[], Any]) -> Any:
    return run()


def test_a_running_event_loop_is_no_obstacle(policy: ServedPolicy, sample: Callable) -> None:
    import asyncio

    with CompletionServer(policy) as server:
        assert asyncio.run(_within_a_loop(lambda: sample(server, GREEDY)))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "begins with http:// or https://"),
        ("localhost:8000/v1", "begins with http:// or https://"),
        ("http://", "begins with http:// or https://"),
        ("http://me:secret@localhost/v1", "api_key_variable"),
        ("http://localhost/v1?key=1", "leave out what follows"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ModelConfig.model_validate({"server": {"url": url}})
