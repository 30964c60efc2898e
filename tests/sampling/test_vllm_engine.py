"""What of the vLLM engine needs no vLLM: what it asks for, how it reads answers, adapters, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError, ModelError
from rlsf.models import ModelConfig, load_tokenizer, vllm_config
from rlsf.models.folder import ModelFolder
from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine, VllmEngine, pool, vllm_engine
from rlsf.sampling.pool import engine_for, worker_count_for
from rlsf.sampling.vllm_process import lora_rank

QUESTION = "Question: What is 7 + 8 - 3?\nAnswer:"
VLLM = {"path": str(MODEL_DIR), "device": "cpu", "engine": "vllm"}


class Double:
    """In the place of vLLM's process: a model decoded row by row, answers written as vLLM writes them."""

    context_length = 200

    def __init__(self, config: ModelConfig) -> None:
        self.model, self.asked, self.closed = AutoModelForCausalLM.from_pretrained(config.path).eval(), [], 0

    def close(self) -> None:
        self.closed += 1

    def generate(self, prompts: Sequence[Sequence[int]], parameters: Sequence[Mapping[str, Any]]) -> list[Any]:
        assert prompts, "vLLM is not asked for nothing"
        self.asked += parameters
        return [self._complete(list(ids), said) for ids, said in zip(prompts, parameters, strict=True)]

    @torch.inference_mode()
    def _complete(self, ids: list[int], said: Mapping[str, Any]) -> Any:
        tokens, flat_ids, flat_logprobs, reason = [], [], [], "length"
        while len(tokens) < said["max_tokens"]:
            logprobs = self.model(torch.tensor([ids + tokens])).logits[0, -1].log_softmax(-1)
            top = logprobs.topk(said["logprobs"])
            tokens.append(int(top.indices[0]))
            # The chosen token first, and likeliest ones in an order that ties leave open.
            flat_ids += [tokens[-1], *top.indices.tolist()]
            flat_logprobs += [float(top.values[0]), *top.values.tolist()]
            if tokens[-1] in said["stop_token_ids"]:
                reason = "stop"
                break
        recorded = SimpleNamespace(token_ids=flat_ids, logprobs=flat_logprobs)
        stop_reason = tokens[-1] if reason == "stop" else None
        return SimpleNamespace(token_ids=tokens, logprobs=recorded, finish_reason=reason, stop_reason=stop_reason)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> VllmEngine:
    monkeypatch.setattr(vllm_engine, "VllmProcess", Double)
    config = ModelConfig.model_validate(VLLM)
    return VllmEngine(config, load_tokenizer(config))


def double_of(engine: VllmEngine) -> Double:
    process: Any = engine._process
    return process


@pytest.fixture
def request_(engine: VllmEngine) -> SamplingRequest:
    return SamplingRequest("q", tuple(engine.tokenizer.encode(QUESTION)), seed=3)


def test_branches_are_those_of_the_engine_in_this_process(engine: VllmEngine, request_: SamplingRequest) -> None:
    config = SamplingConfig(branches=3, max_new_tokens=12)
    local = TransformersEngine(double_of(engine).model, engine.tokenizer)
    [[*traces], [*expected]] = [next(each.sample([request_], config)) for each in (engine, local)]
    for trace, same in zip(traces, expected, strict=True):
        assert trace.token_ids.tolist() == same.token_ids.tolist()
        assert (trace.text, trace.finish_reason, trace.trace_id) == (same.text, same.finish_reason, same.trace_id)
        for name in ("logprob", "top1_logprob", "top2_logprob", "disparity"):
            np.testing.assert_allclose(getattr(trace.statistics, name), getattr(same.statistics, name), atol=1e-4)
        assert trace.statistics.of_likeliest_alone
    first, *others = double_of(engine).asked
    assert (first["max_tokens"], first["logprobs"], first["temperature"]) == (1, 3, 0.0)
    assert {(said["max_tokens"], said["logprobs"], said["temperature"]) for said in others} == {(11, 2, 0.0)}


def test_draws_are_asked_for_with_a_seed_each(engine: VllmEngine, request_: SamplingRequest) -> None:
    config = SamplingConfig(
        strategy="sampling", branches=3, max_new_tokens=2, temperature=0.7, top_p=0.9, top_k=4, min_p=0.1
    )
    list(engine.sample([request_], config))
    list(engine.sample([request_], config))
    asked = double_of(engine).asked
    seeds = [said["seed"] for said in asked]
    assert len(set(seeds)) == 3
    assert seeds[:3] == seeds[3:]
    assert all(
        (said["temperature"], said["top_p"], said["top_k"], said["min_p"]) == (0.7, 0.9, 4, 0.1) for said in asked
    )
    assert all(said["ignore_eos"] and engine.tokenizer.eos_token_id in said["stop_token_ids"] for said in asked)


def test_a_branch_that_is_drawn_on_begins_with_the_likeliest_token(
    engine: VllmEngine, request_: SamplingRequest
) -> None:
    config = SamplingConfig(branches=1, continuation="sampled", max_new_tokens=4)
    list(engine.sample([request_], config))
    first, then = double_of(engine).asked
    assert (first["max_tokens"], first["temperature"]) == (1, 0.0)
    assert (then["max_tokens"], then["temperature"]) == (3, 1.0)


def test_ties_go_to_the_smaller_id() -> None:
    recorded = SimpleNamespace(token_ids=[9, 9, 4, 7, 7, 3], logprobs=[-0.7, -0.7, -0.7, -0.1, -0.1, -2.5])
    steps = vllm_engine._steps(SimpleNamespace(logprobs=recorded), 2, "q")
    assert steps.ids.tolist() == [9, 7]
    assert steps.top_ids.tolist() == [[4, 9], [7, 3]]


def test_log_probabilities_that_are_not_numbers_are_the_models_fault() -> None:
    recorded = SimpleNamespace(token_ids=[1, 1, 2, 0, 0, 0], logprobs=[-0.1, -0.1, -3.0, np.nan, np.nan, np.nan])
    with pytest.raises(ModelError, match="'q' are not finite at new token 1"):
        vllm_engine._steps(SimpleNamespace(logprobs=recorded), 2, "q")


def test_vllm_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_config, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"vLLM is not installed: pip install 'rlsf\[vllm\]'.*make vllm") as raised:
        engine_for(ModelConfig.model_validate(VLLM))
    assert "\n" not in str(raised.value)


def test_another_model_ends_the_engine_before_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "VllmProcess", Double)
    monkeypatch.setattr(pool, "require_vllm", lambda: None)
    config = ModelConfig.model_validate(VLLM)
    with pool.EnginePool(1) as workers:
        first: Any = engine_for(config)
        assert engine_for(config) is first
        assert isinstance(pool.local_engine_for(config), TransformersEngine)
        assert double_of(first).closed == 1
        second: Any = engine_for(config)
        workers.let_go()
        assert double_of(second).closed == 1
        third: Any = engine_for(config)
    assert double_of(third).closed == 1


def test_one_process_samples_whatever_is_asked() -> None:
    assert worker_count_for(ModelConfig.model_validate(VLLM), 7) == 1
    assert worker_count_for(ModelConfig(path=str(MODEL_DIR)), 7) == 7


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"engine_arguments": {"logprobs_mode": "x"}}, "logprobs_mode is not for engine_arguments"),
        ({"engine_arguments": {"max_model_len": 5}}, "use the field of model.vllm"),
        ({"gpu_memory_utilization": 1.5}, "less than or equal to 1"),
        ({"memory": 1}, "Extra inputs"),
    ],
)
def test_options_that_cannot_be_are_refused(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ModelConfig.model_validate({**VLLM, "vllm": said})
    with pytest.raises(ValueError, match="leave server out"):
        ModelConfig.model_validate({**VLLM, "server": {"url": "http://localhost:8000/v1"}})


@pytest.mark.parametrize(
    ("said", "rank"),
    [
        ({}, 8),
        ({"r": 17}, 32),
        ({"r": 600}, None),
        ({"use_dora": True}, None),
        ({"bias": "all"}, None),
        ({"modules_to_save": ["lm_head"]}, None),
        ({"modules_to_save": None, "rank_pattern": {}, "use_dora": False, "init_lora_weights": True}, 8),
        ({"init_lora_weights": "pissa"}, None),
        ({"target_modules": ["q_proj", "embed_tokens"]}, None),
        ({"target_modules": ".*_proj"}, None),
        ({"peft_type": "PROMPT_TUNING"}, None),
    ],
)
def test_adapters_that_vllm_applies_as_peft_does(said: dict[str, Any], rank: int | None, tmp_path: Path) -> None:
    plain = {"peft_type": "LORA", "bias": "none", "r": 4, "target_modules": ["q_proj", "v_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps({**plain, **said}))
    assert lora_rank(ModelFolder("adapter", tmp_path)) == rank
