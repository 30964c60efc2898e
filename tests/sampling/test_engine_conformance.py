"""One suite for every engine: tokens, statistics, ends and seeds against transformers' ``generate`` and full passes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from agreement import EVERY, assert_statistics
from completion_server import CompletionServer, ServedPolicy
from transformers import AutoModelForCausalLM, PreTrainedModel

from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError
from rlsf.models import ModelConfig, load_tokenizer
from rlsf.sampling import Engine, SamplingConfig, SamplingRequest
from rlsf.sampling.pool import EnginePool, engine_for
from rlsf.tokenstats.statistics import UNSERVED
from rlsf.traces import Trace

QUESTIONS = (
    "Question: What is 12 + 30?\nAnswer:",
    "Question: What is 7 + 8 - 3?\nAnswer:",
    "Question: 5 + 5?\nAnswer:",
)
#: A second end of sequence, which but some traces come to.
SECOND_END = " answer"
GREEDY = SamplingConfig(branches=1, max_new_tokens=30)
BRANCHES = SamplingConfig(branches=6, max_new_tokens=30)
DRAWN = SamplingConfig(strategy="sampling", branches=4, max_new_tokens=20, temperature=0.8, top_k=50)
#: What engines may differ by: sums in another order.
TOLERANCE = 5e-4

pytestmark = pytest.mark.xdist_group("engines")
Reference = Callable[[PreTrainedModel, Sequence[int], Sequence[int]], torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model with two ends of sequence, as chat models have them."""
    path = tmp_path_factory.mktemp("models") / "policy"
    shutil.copytree(MODEL_DIR, path)
    tokenizer = load_tokenizer(ModelConfig(path=str(path)))
    [second] = tokenizer.encode(SECOND_END, add_special_tokens=False)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer.eos_token_id, second]}))
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module", params=["transformers", "server", "vllm"])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[Engine]:
    if request.param == "vllm" and find_spec("vllm") is None:
        pytest.skip("vLLM is not installed: make conformance")
    if request.param == "server":
        with CompletionServer(ServedPolicy(folder)) as server:
            yield engine_for(ModelConfig.model_validate({"path": str(folder), "server": {"url": server.url}}))
        return
    options = {"cache_gib": 0.5, "enforce_eager": True}
    said = {"path": str(folder), "device": "cpu", "engine": request.param, "vllm": options}
    with EnginePool(1):  # leaving it ends vLLM
        yield engine_for(ModelConfig.model_validate(said))


@pytest.fixture(scope="module")
def requests(folder: Path) -> list[SamplingRequest]:
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    return [
        SamplingRequest(f"q{number}", tuple(tokenizer.encode(question)), seed=3)
        for number, question in enumerate(QUESTIONS)
    ]


@pytest.fixture(scope="module")
def branches(engine: Engine, requests: list[SamplingRequest]) -> list[list[Trace]]:
    return list(engine.sample(requests, BRANCHES))


def ids_of(groups: Sequence[Sequence[Trace]]) -> list[list[list[int]]]:
    return [[trace.token_ids.tolist() for trace in group] for group in groups]


def test_greedy_tokens_are_those_of_generate(
    engine: Engine, model: PreTrainedModel, requests: list[SamplingRequest]
) -> None:
    ends = set(model.generation_config.eos_token_id)
    for request, [trace] in zip(requests, engine.sample(requests, GREEDY), strict=True):
        prompt = torch.tensor([request.token_ids])
        whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=30)
        expected = whole[0, prompt.shape[1] :].tolist()
        assert trace.token_ids.tolist() == expected
        assert trace.finish_reason == ("eos" if expected[-1] in ends else "length")
        assert trace.strategy == "greedy"
        assert trace.text == engine.tokenizer.decode(expected, skip_special_tokens=True)


def test_branches_begin_with_the_likeliest_tokens_and_go_on_greedily(
    engine: Engine,
    model: PreTrainedModel,
    requests: list[SamplingRequest],
    branches: list[list[Trace]],
    reference_logits: Reference,
) -> None:
    for request, group in zip(requests, branches, strict=True):
        assert [trace.index for trace in group] == list(range(6))
        for trace in group:
            assert trace.prompt_token_ids.tolist() == list(request.token_ids)
            assert trace.strategy == "cot_decoding"
            logits = reference_logits(model, request.token_ids, trace.token_ids)
            assert trace.token_ids[0] == logits[0].argsort(descending=True)[trace.index]
            chosen = logits.gather(1, torch.from_numpy(trace.token_ids).long().unsqueeze(1)).squeeze(1)
            assert (chosen[1:] >= logits[1:].amax(-1) - TOLERANCE).all()


@pytest.mark.parametrize("count", [1, 2])
def test_a_drawn_continuation_begins_with_the_likeliest_tokens(
    engine: Engine, requests: list[SamplingRequest], branches: list[list[Trace]], count: int
) -> None:
    config = BRANCHES.model_copy(update={"branches": count, "continuation": "sampled", "temperature": 2.0})
    drawn = list(engine.sample(requests, config))
    firsts = [[trace.token_ids[0] for trace in group[:count]] for group in branches]
    assert [[trace.token_ids[0] for trace in group] for group in drawn] == firsts
    assert ids_of(drawn) != ids_of([group[:count] for group in branches])


def test_every_end_of_sequence_ends_a_trace(model: PreTrainedModel, branches: list[list[Trace]]) -> None:
    ends, met = set(model.generation_config.eos_token_id), set()
    for trace in (trace for group in branches for trace in group):
        *before, last = trace.token_ids.tolist()
        assert ends.isdisjoint(before)
        assert (trace.finish_reason == "eos") == (last in ends)
        assert trace.truncated == (len(trace.token_ids) == 30 and last not in ends)
        met.add(last if last in ends else None)
    assert met >= {model.generation_config.eos_token_id[1], None}, "the case must have both kinds of traces"


@pytest.mark.parametrize("config", [BRANCHES, DRAWN], ids=["branches", "drawn"])
def test_statistics_are_those_of_the_model_at_temperature_one(
    engine: Engine,
    model: PreTrainedModel,
    requests: list[SamplingRequest],
    config: SamplingConfig,
    reference_logits: Reference,
) -> None:
    for request, group in zip(requests, engine.sample(requests, config), strict=True):
        for trace in group:
            logits = reference_logits(model, request.token_ids, trace.token_ids)
            missing = [name for name in UNSERVED if np.isnan(getattr(trace.statistics, name)).all()]
            assert missing in ([], list(UNSERVED)), "an engine records whole distributions or none"
            recorded = [name for name in EVERY if name not in missing]
            assert_statistics(trace, logits, TOLERANCE, recorded)
            assert trace.statistics.vocabulary_size == logits.shape[1]
            filtered = logits.topk(50).values[:, -1]
            chosen = logits.gather(1, torch.from_numpy(trace.token_ids).long().unsqueeze(1)).squeeze(1)
            assert (chosen >= filtered - TOLERANCE).all(), "top_k"


def test_a_stop_string_ends_a_trace_with_the_token_that_completes_it(
    engine: Engine, requests: list[SamplingRequest], branches: list[list[Trace]]
) -> None:
    """Looked for in the first token of a branch, too, and over the boundaries of tokens."""
    stops = (branches[0][0].text[:2], branches[1][1].text[5:9], "\n\n")
    config = BRANCHES.model_copy(update={"stop": stops})
    reasons = set()
    for group, whole in zip(engine.sample(requests, config), branches, strict=True):
        for trace, unstopped in zip(group, whole, strict=True):
            length = len(trace.token_ids)
            assert trace.token_ids.tolist() == unstopped.token_ids[:length].tolist()
            text = engine.tokenizer.decode(trace.token_ids, skip_special_tokens=True)
            shorter = engine.tokenizer.decode(trace.token_ids[:-1], skip_special_tokens=True)
            assert not any(stop in shorter for stop in stops)
            assert any(stop in text for stop in stops) == (trace.finish_reason == "stop")
            assert text.startswith(trace.text)
            assert not any(stop in trace.text for stop in stops)
            if trace.finish_reason != "stop":
                assert length == len(unstopped.token_ids)
            reasons.add(trace.finish_reason)
    assert "stop" in reasons
    assert len(reasons) > 1, "the case must have traces that no string stops"


@pytest.mark.parametrize("budget", [1, 2])
def test_small_budgets_truncate(
    engine: Engine, requests: list[SamplingRequest], branches: list[list[Trace]], budget: int
) -> None:
    config = BRANCHES.model_copy(update={"max_new_tokens": budget})
    cut = list(engine.sample(requests, config))
    assert ids_of(cut) == [[trace.token_ids[:budget].tolist() for trace in group] for group in branches]
    assert {trace.truncated for group in cut for trace in group if len(trace.token_ids) < 30} >= {True}


def test_the_context_bounds_a_trace(engine: Engine, requests: list[SamplingRequest]) -> None:
    assert engine.context_length is not None
    filler = (requests[0].token_ids * 200)[: engine.context_length - 3]
    [group] = engine.sample([SamplingRequest("long", filler)], BRANCHES)
    assert {len(trace.token_ids) for trace in group if trace.truncated} == {3}


def test_draws_depend_on_seed_prompt_and_index_alone(engine: Engine, requests: list[SamplingRequest]) -> None:
    together = ids_of(list(engine.sample(requests, DRAWN)))
    assert ids_of(list(engine.sample(requests[::-1], DRAWN)))[::-1] == together
    assert ids_of(list(engine.sample(requests[1:2], DRAWN))) == together[1:2]
    fewer = DRAWN.model_copy(update={"branches": 2, "max_new_tokens": 5})
    assert ids_of(list(engine.sample(requests, fewer))) == [[ids[:5] for ids in group[:2]] for group in together]
    assert len({tuple(ids) for group in together for ids in group}) > len(requests)
    other = [SamplingRequest(request.prompt_id, request.token_ids, seed=4) for request in requests]
    assert ids_of(list(engine.sample(other, DRAWN))) != together


def test_what_cannot_be_sampled_is_refused_before_any_work(engine: Engine, requests: list[SamplingRequest]) -> None:
    assert engine.context_length is not None
    too_long = (requests[0].token_ids * 200)[: engine.context_length]
    for tokens, said in (((), "empty"), (too_long, "no room|leaves no room"), ((10**6,), "outside the model's vocab")):
        with pytest.raises(InputError, match=said):
            engine.sample([*requests, SamplingRequest("odd", tokens)], GREEDY)


def test_no_prompts_no_traces(engine: Engine) -> None:
    assert list(engine.sample([], BRANCHES)) == []
