"""The engine by hand, on a model that is a table of probabilities; and on bad input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlsf.errors import InputError, ModelError
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.transformers_engine import TransformersEngine
from rlsf.tokenstats.from_logits import statistics_of_logits
from rlsf.traces import Trace

TableModel = Callable[[Sequence[Sequence[float]]], PreTrainedModel]


#: A table over a, b, c, d, e, end: row i holds the probabilities after token i.
TABLE = [
    [0.05, 0.40, 0.30, 0.15, 0.06, 0.04],
    [0.10, 0.10, 0.60, 0.05, 0.05, 0.10],
    [0.05, 0.05, 0.05, 0.70, 0.10, 0.05],
    [0.10, 0.10, 0.10, 0.10, 0.10, 0.50],
    [0.20, 0.10, 0.10, 0.20, 0.35, 0.05],
    [0.20, 0.20, 0.20, 0.20, 0.10, 0.10],
]


def sample(
    engine: TransformersEngine, requests: Sequence[SamplingRequest], config: SamplingConfig
) -> list[list[Trace]]:
    return list(engine.sample(requests, config))


def table(table_model: TableModel, letters: PreTrainedTokenizerFast) -> TransformersEngine:
    return TransformersEngine(table_model(np.log(TABLE).tolist()), letters)


def test_branches_of_a_table_by_hand(table_model: TableModel, letters: PreTrainedTokenizerFast) -> None:
    """After "a" the most likely tokens are b, c, d; then b -> c, c -> d, d -> end."""
    [group] = sample(
        table(table_model, letters), [SamplingRequest("p", (0,))], SamplingConfig(branches=3, max_new_tokens=9)
    )
    assert [trace.token_ids.tolist() for trace in group] == [[1, 2, 3, 5], [2, 3, 5], [3, 5]]
    assert [trace.text for trace in group] == ["b c d", "c d", "d"]
    assert {trace.finish_reason for trace in group} == {"eos"}
    second = group[1].statistics
    np.testing.assert_allclose(np.exp(second.logprob), [0.30, 0.70, 0.50], atol=1e-6)
    np.testing.assert_allclose(np.exp(second.top1_logprob), [0.40, 0.70, 0.50], atol=1e-6)
    np.testing.assert_allclose(np.exp(second.top2_logprob), [0.30, 0.10, 0.10], atol=1e-6)
    np.testing.assert_allclose(second.disparity, [0.0, 0.60, 0.40], atol=1e-6)
    assert second.top1_id.tolist() == [1, 3, 5]
    # The rows of the table are normalised: logsumexp 0, mean logit the mean log-probability.
    np.testing.assert_allclose(second.logsumexp, 0.0, atol=1e-6)
    np.testing.assert_allclose(second.mean_logit, [np.log(TABLE[row]).mean() for row in (0, 2, 3)], atol=1e-6)
    np.testing.assert_allclose(
        second.entropy, [-(np.array(TABLE[row]) * np.log(TABLE[row])).sum() for row in (0, 2, 3)], atol=1e-6
    )


def test_the_greedy_trace(table_model: TableModel, letters: PreTrainedTokenizerFast) -> None:
    [[trace]] = sample(table(table_model, letters), [SamplingRequest("p", (0,))], SamplingConfig(branches=1))
    assert trace.strategy == "greedy"
    assert trace.token_ids.tolist() == [1, 2, 3, 5]
    assert (trace.statistics.logprob == trace.statistics.top1_logprob).all(), "bitwise: disparity compares them"


def test_a_first_token_that_ends_the_sequence(table_model: TableModel, letters: PreTrainedTokenizerFast) -> None:
    [group] = sample(
        table(table_model, letters), [SamplingRequest("p", (3,))], SamplingConfig(branches=6, max_new_tokens=4)
    )
    assert [trace.token_ids.tolist()[0] for trace in group] == [5, 0, 1, 2, 3, 4], "ties go to the smaller id"
    assert group[0].token_ids.tolist() == [5]
    assert (group[0].text, group[0].finish_reason) == ("", "eos")


def test_sampling_follows_the_table(table_model: TableModel, letters: PreTrainedTokenizerFast) -> None:
    config = SamplingConfig(strategy="sampling", branches=2000, max_new_tokens=1)
    [group] = sample(table(table_model, letters), [SamplingRequest("p", (0,), seed=3)], config)
    shares = np.bincount([trace.token_ids[0] for trace in group], minlength=6) / 2000
    # Four standard errors of the largest: 4 sqrt(0.4 * 0.6 / 2000) = 0.044.
    np.testing.assert_allclose(shares, TABLE[0], atol=0.044)


def test_branches_with_sampled_continuations(table_model: TableModel, letters: PreTrainedTokenizerFast) -> None:
    config = SamplingConfig(branches=4, continuation="sampled", max_new_tokens=30)
    [group] = sample(table(table_model, letters), [SamplingRequest("p", (0,), seed=1)], config)
    assert [int(trace.token_ids[0]) for trace in group] == [1, 2, 3, 4]
    assert {trace.strategy for trace in group} == {"cot_decoding"}
    assert any(trace.token_ids.tolist() != [1, 2, 3, 5][-len(trace.token_ids) :] for trace in group)


def test_budget_and_context_truncate(table_model: TableModel, letters: PreTrainedTokenizerFast) -> None:
    engine = table(table_model, letters)
    [[trace]] = sample(engine, [SamplingRequest("p", (0,))], SamplingConfig(branches=1, max_new_tokens=2))
    assert (trace.token_ids.tolist(), trace.finish_reason, trace.truncated) == ([1, 2], "length", True)
    [[whole]] = sample(engine, [SamplingRequest("p", (0,))], SamplingConfig(branches=1, max_new_tokens=4))
    assert (whole.token_ids.tolist(), whole.finish_reason) == ([1, 2, 3, 5], "eos")
    assert engine.context_length == 64
    long = SamplingRequest("long", (4,) * 61)
    short = SamplingRequest("short", (4,))
    [[cut], [uncut]] = sample(engine, [long, short], SamplingConfig(branches=1, max_new_tokens=10))
    assert (len(cut.token_ids), cut.finish_reason) == (3, "length")
    assert (len(uncut.token_ids), uncut.finish_reason) == (10, "length")


def test_every_end_of_sequence_id_counts(table_model: TableModel, letters: PreTrainedTokenizerFast) -> None:
    model = table_model(np.log(TABLE).tolist())
    model.generation_config.eos_token_id = [5, 2]
    [[trace]] = sample(TransformersEngine(model, letters), [SamplingRequest("p", (0,))], SamplingConfig(branches=1))
    assert (trace.token_ids.tolist(), trace.finish_reason) == ([1, 2], "eos")


@pytest.mark.parametrize(
    ("ids", "branches", "message"),
    [
        ((), 2, r"prompt 'bad' is empty"),
        ((1,) * 64, 2, r"prompt 'bad' has 64 tokens and the model's context 64.*shorten the prompt"),
        ((1, 6), 2, r"prompt 'bad' holds token id 6, outside the model's vocabulary of 6"),
        ((1, -1), 2, r"prompt 'bad' holds token id -1, outside the model's vocabulary of 6"),
        ((1,), 7, r"sampling.branches=7, but the vocabulary has only 6 tokens"),
    ],
)
def test_bad_requests_are_named_before_any_work(
    ids: tuple[int, ...], branches: int, message: str, table_model: TableModel, letters: PreTrainedTokenizerFast
) -> None:
    engine = table(table_model, letters)
    with pytest.raises(InputError, match=message):
        engine.sample([SamplingRequest("good", (0,)), SamplingRequest("bad", ids)], SamplingConfig(branches=branches))


@pytest.mark.parametrize(("prompt", "step"), [((3,), 0), ((1,), 2)])
def test_logits_that_are_not_finite_name_the_prompt(
    prompt: tuple[int, ...], step: int, table_model: TableModel, letters: PreTrainedTokenizerFast
) -> None:
    logits = np.log(TABLE)
    logits[3] = math.nan
    model = table_model(logits.tolist())
    # 0 x NaN would spoil every row of the product; a hook spoils only what follows token 3.
    model.lm_head.weight.data[:, 3] = 0.0  # type: ignore[union-attr, operator, index]

    def spoil(module: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return torch.where(inputs[0][..., 3:4] > 0.5, math.nan, output)

    model.lm_head.register_forward_hook(spoil)  # type: ignore[union-attr, operator]
    engine = TransformersEngine(model, letters)
    requests = [SamplingRequest("fine", (4,)), SamplingRequest("spoilt", prompt)]
    with pytest.raises(ModelError, match=rf"prompt 'spoilt' are not finite at new token {step}"):
        sample(engine, requests, SamplingConfig(branches=1, max_new_tokens=6))


def test_no_end_of_sequence_anywhere(table_model: TableModel, letters: PreTrainedTokenizerFast) -> None:
    model = table_model(np.log(TABLE).tolist())
    nameless = PreTrainedTokenizerFast(tokenizer_object=letters._tokenizer)
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    with pytest.raises(ModelError, match="end-of-sequence"):
        TransformersEngine(model, nameless)


def test_the_models_end_of_sequence_is_enough(table_model: TableModel, letters: PreTrainedTokenizerFast) -> None:
    nameless = PreTrainedTokenizerFast(tokenizer_object=letters._tokenizer)
    engine = TransformersEngine(table_model(np.log(TABLE).tolist()), nameless)
    [[trace]] = sample(engine, [SamplingRequest("p", (0,))], SamplingConfig(branches=1))
    assert (trace.token_ids.tolist(), trace.finish_reason) == ([1, 2, 3, 5], "eos")


def test_the_table_is_a_language_model(table_model: TableModel) -> None:
    model = table_model(np.log(TABLE).tolist())
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[0, 1, 2, 3, 4, 5]])).logits[0]
    torch.testing.assert_close(logits.softmax(-1), torch.tensor(TABLE), atol=1e-6, rtol=0)
    assert statistics_of_logits(logits).logsumexp.abs().max() < 1e-6
