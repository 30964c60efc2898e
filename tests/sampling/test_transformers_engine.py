"""The engine against full forward passes of many architectures, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from agreement import assert_statistics
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.forward import CausalModel
from rlsf.sampling.transformers_engine import TransformersEngine
from rlsf.traces import Trace

ModelOf = Callable[..., PreTrainedModel]
PromptsOf = Callable[[int], list[SamplingRequest]]
Reference = Callable[[PreTrainedModel, Sequence[int], Sequence[int]], torch.Tensor]
TableModel = Callable[[Sequence[Sequence[float]]], PreTrainedModel]

SHARING = ("llama", "qwen2", "qwen3", "phi", "gpt2", "opt", "gpt_neox", "mixtral")
COPYING = ("bloom", "mistral", "gemma2", "gemma3_text", "mamba", "lfm2", "openai-gpt")
GREEDY = SamplingConfig(branches=3, max_new_tokens=12)
SAMPLED = SamplingConfig(strategy="sampling", branches=3, max_new_tokens=12, temperature=1.3, top_p=0.95, top_k=50)


def sample(
    engine: TransformersEngine, requests: Sequence[SamplingRequest], config: SamplingConfig
) -> list[list[Trace]]:
    return list(engine.sample(requests, config))


def ids_of(groups: list[list[Trace]]) -> list[list[list[int]]]:
    return [[trace.token_ids.tolist() for trace in group] for group in groups]


@pytest.mark.parametrize("architecture", [*SHARING, *COPYING])
def test_tokens_and_statistics_against_full_forward_passes(
    architecture: str,
    model_of: ModelOf,
    tokenizer: PreTrainedTokenizerFast,
    prompts_of: PromptsOf,
    reference_logits: Reference,
) -> None:
    model, prompts = model_of(architecture), prompts_of(5)
    groups = sample(TransformersEngine(model, tokenizer), prompts, GREEDY)
    for request, group in zip(prompts, groups, strict=True):
        assert [trace.index for trace in group] == [0, 1, 2]
        for trace in group:
            assert trace.prompt_id == request.prompt_id
            assert trace.prompt_token_ids.tolist() == list(request.token_ids)
            logits = reference_logits(model, request.token_ids, trace.token_ids)
            assert_statistics(trace, logits)
            by_rank = logits[0].argsort(descending=True)
            assert trace.token_ids[0] == by_rank[trace.index]
            chosen = logits.gather(1, torch.from_numpy(trace.token_ids).long().unsqueeze(1)).squeeze(1)
            assert (chosen[1:] >= logits[1:].amax(-1) - 1e-4).all(), "later tokens are the most likely ones"


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "mamba"])
def test_sampled_traces_carry_raw_statistics(
    architecture: str,
    model_of: ModelOf,
    tokenizer: PreTrainedTokenizerFast,
    prompts_of: PromptsOf,
    reference_logits: Reference,
) -> None:
    model, prompts = model_of(architecture), prompts_of(3)
    for request, group in zip(prompts, sample(TransformersEngine(model, tokenizer), prompts, SAMPLED), strict=True):
        for trace in group:
            assert trace.strategy == "sampling"
            assert_statistics(trace, reference_logits(model, request.token_ids, trace.token_ids))


@pytest.mark.parametrize("architecture", SHARING)
def test_plain_attention_shares_prompts(architecture: str, model_of: ModelOf) -> None:
    with torch.inference_mode():
        assert CausalModel(model_of(architecture)).can_branch()


@pytest.mark.parametrize("architecture", COPYING)
def test_other_layers_fall_back_to_copies(architecture: str, model_of: ModelOf) -> None:
    with torch.inference_mode():
        assert not CausalModel(model_of(architecture)).can_branch()


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mamba", "openai-gpt"])
@pytest.mark.parametrize("config", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_neither_batch_size_nor_order_matters(
    architecture: str,
    config: SamplingConfig,
    model_of: ModelOf,
    tokenizer: PreTrainedTokenizerFast,
    prompts_of: PromptsOf,
) -> None:
    engine, prompts = TransformersEngine(model_of(architecture), tokenizer), prompts_of(6)
    expected = sample(engine, prompts, config)
    for batch_tokens in (1, 130):
        smaller = sample(engine, prompts, config.model_copy(update={"batch_tokens": batch_tokens}))
        assert ids_of(smaller) == ids_of(expected)
        for one, other in zip(smaller, expected, strict=True):
            for trace, same in zip(one, other, strict=True):
                np.testing.assert_allclose(trace.statistics.entropy, same.statistics.entropy, atol=1e-4)
    assert ids_of(sample(engine, prompts[::-1], config)) == ids_of(expected)[::-1]
    assert ids_of(sample(engine, prompts[2:3], config)) == ids_of(expected)[2:3]


def test_sampled_traces_depend_on_seed_and_index_alone(
    model_of: ModelOf, tokenizer: PreTrainedTokenizerFast, prompts_of: PromptsOf
) -> None:
    engine, [request] = TransformersEngine(model_of("llama"), tokenizer), prompts_of(1)
    [first] = ids_of(sample(engine, [request], SAMPLED))
    fewer = SAMPLED.model_copy(update={"branches": 2, "max_new_tokens": 5})
    assert ids_of(sample(engine, [request], fewer))[0] == [ids[:5] for ids in first[:2]]
    assert len({tuple(ids) for ids in first}) == 3, "traces of a prompt must differ"
    other = SamplingRequest(request.prompt_id, request.token_ids, seed=request.seed + 1)
    assert ids_of(sample(engine, [other], SAMPLED))[0] != first


def test_statistics_of_one_token_completions_depend_on_the_prompt_alone(
    model_of: ModelOf, tokenizer: PreTrainedTokenizerFast, prompts_of: PromptsOf
) -> None:
    """What the off-by-one of published code breaks: entropy of all one-token traces of a prompt must be equal."""
    config = SamplingConfig(strategy="sampling", branches=8, max_new_tokens=1)
    for group in sample(TransformersEngine(model_of("llama"), tokenizer), prompts_of(3), config):
        assert len({int(trace.token_ids[0]) for trace in group}) > 1
        for name in ("entropy", "self_certainty", "logsumexp", "top1_logprob"):
            assert len({float(getattr(trace.statistics, name)[0]) for trace in group}) == 1


def test_stop_strings_end_a_trace_with_the_token_that_completes_them(
    model_of: ModelOf, tokenizer: PreTrainedTokenizerFast, prompts_of: PromptsOf
) -> None:
    engine = TransformersEngine(model_of("llama"), tokenizer)
    config = SamplingConfig(strategy="sampling", branches=4, max_new_tokens=16)
    unstopped = sample(engine, prompts_of(4), config)
    stopped_somewhere = 0
    for number, group in enumerate(unstopped):
        stop = group[0].text[5:8]
        stopped = sample(engine, prompts_of(4), config.model_copy(update={"stop": (stop,)}))
        for trace, full in zip(stopped[number], group, strict=True):
            length = len(trace.token_ids)
            assert trace.token_ids.tolist() == full.token_ids[:length].tolist()
            np.testing.assert_allclose(trace.statistics.logprob, full.statistics.logprob[:length], atol=1e-5)
            before = tokenizer.decode(full.token_ids[: length - 1], skip_special_tokens=True)
            assert stop not in before
            if trace.finish_reason == "stop":
                stopped_somewhere += 1
                assert stop in tokenizer.decode(trace.token_ids, skip_special_tokens=True)
                assert trace.text == full.text[: full.text.find(stop)]
            else:
                assert (length, trace.text) == (len(full.token_ids), full.text)
    assert stopped_somewhere >= 4


def forward_sizes(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Shapes of the ids of every forward pass from here on."""
    shapes: list[tuple[int, int]] = []
    forward = type(engine.model).forward

    def counting(self: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        shapes.append(tuple(input_ids.shape))  # type: ignore[arg-type]
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(engine.model, "forward", counting.__get__(engine.model))
    return shapes


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "lfm2"])
def test_prompts_are_read_once_and_finished_rows_leave(
    architecture: str,
    model_of: ModelOf,
    tokenizer: PreTrainedTokenizerFast,
    prompts_of: PromptsOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of(architecture)
    model.generation_config.eos_token_id = list(range(2, 40))
    engine = TransformersEngine(model, tokenizer)
    prompts = [request for request in prompts_of(24) if len(request.token_ids) == 5]
    config = SamplingConfig(strategy="sampling", branches=4, max_new_tokens=25)
    expected = sample(engine, prompts, config)
    shapes = forward_sizes(engine, monkeypatch)
    assert ids_of(sample(engine, prompts, config)) == ids_of(expected)
    lengths = [len(trace.token_ids) for group in expected for trace in group]
    assert len(set(lengths)) > 4, "the case must have rows that finish at different steps"
    assert shapes[0] == (len(prompts), 5)
    still_going = [sum(length > step for length in lengths) for step in range(1, max(lengths))]
    assert shapes[1:] == [(rows, 1) for rows in still_going]


def test_left_padding_is_invisible_to_learned_positions(
    model_of: ModelOf, tokenizer: PreTrainedTokenizerFast, reference_logits: Reference
) -> None:
    model = model_of("gpt2")
    prompts = [SamplingRequest("short", (7, 8)), SamplingRequest("long", tuple(range(10, 40)))]
    traces = sample(TransformersEngine(model, tokenizer), prompts, SamplingConfig(branches=1, max_new_tokens=5))
    for request, [trace] in zip(prompts, traces, strict=True):
        assert_statistics(trace, reference_logits(model, request.token_ids, trace.token_ids))


def test_an_adapter_on_top_and_a_model_in_training(
    model_of: ModelOf, tokenizer: PreTrainedTokenizerFast, prompts_of: PromptsOf, reference_logits: Reference
) -> None:
    model: Any = get_peft_model(model_of("llama"), LoraConfig(r=2, lora_dropout=0.5, target_modules=["q_proj"]))
    torch.nn.init.normal_(model.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight)
    model.train()
    usual = model.config._attn_implementation
    engine = TransformersEngine(model, tokenizer)
    traces = engine.sample(prompts_of(3), GREEDY.model_copy(update={"batch_tokens": 1}))
    first = next(traces)
    assert model.training
    assert torch.is_grad_enabled()
    assert model.config._attn_implementation == usual
    model.eval()
    for request, group in zip(prompts_of(3), [first, *traces], strict=True):
        for trace in group:
            assert_statistics(trace, reference_logits(model, request.token_ids, trace.token_ids))


def test_half_precision(
    model_of: ModelOf, tokenizer: PreTrainedTokenizerFast, prompts_of: PromptsOf, reference_logits: Reference
) -> None:
    model, prompts = model_of("llama").to(torch.bfloat16), prompts_of(3)
    for request, group in zip(prompts, sample(TransformersEngine(model, tokenizer), prompts, GREEDY), strict=True):
        for trace in group:
            logits = reference_logits(model, request.token_ids, trace.token_ids)
            np.testing.assert_allclose(trace.statistics.logsumexp, logits.logsumexp(-1).numpy(), rtol=0.02, atol=0.1)


def test_text_decodes_the_ids_without_special_tokens(
    model_of: ModelOf, tokenizer: PreTrainedTokenizerFast, prompts_of: PromptsOf
) -> None:
    for group in sample(TransformersEngine(model_of("llama"), tokenizer), prompts_of(3), SAMPLED):
        for trace in group:
            assert trace.text == tokenizer.decode(trace.token_ids, skip_special_tokens=True)


def test_logits_are_not_kept(
    model_of: ModelOf, tokenizer: PreTrainedTokenizerFast, prompts_of: PromptsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peak memory of a long run exceeds that of a short one by cache and records, not by steps x rows x vocabulary."""
    engine = TransformersEngine(model_of("llama", vocab_size=20_000), tokenizer)
    rows, peaks = 3 * 4, []
    for new_tokens in (8, 40):
        config = SamplingConfig(strategy="sampling", branches=4, max_new_tokens=new_tokens)
        sample(engine, prompts_of(3), config)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            lengths = [len(trace.token_ids) for group in sample(engine, prompts_of(3), config) for trace in group]
        events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
        peaks.append(max(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])))
        assert max(lengths) == new_tokens
    one_step = rows * 20_000 * 4
    assert one_step < peaks[0]
    assert peaks[1] - peaks[0] < one_step / 2


def test_no_prompts_no_traces(model_of: ModelOf, tokenizer: PreTrainedTokenizerFast) -> None:
    assert sample(TransformersEngine(model_of("llama"), tokenizer), [], GREEDY) == []
