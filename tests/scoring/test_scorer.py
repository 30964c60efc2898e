"""The scorer: what sampling recorded, in order, in bounded windows, whatever the batch; and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import VOCABULARY, tiny_model
from example_traces import (
    FLOATS,
    assert_equal_statistics,
    assert_statistics,
    groups_of_traces,
    ordinary_logits,
    tokens,
    trace,
)
from float64_reference import assert_matches
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import rlsf
from rlsf.answers import Answer
from rlsf.errors import InputError, ModelError
from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.scoring import Scorer
from rlsf.tokenstats import STATISTIC_NAMES, TokenStatistics
from rlsf.traces import Trace

STRATEGIES = {
    "greedy": SamplingConfig(branches=1, max_new_tokens=24),
    "branches": SamplingConfig(branches=6, max_new_tokens=24),
    "sampled branches": SamplingConfig(branches=6, max_new_tokens=24, continuation="sampled"),
    "sampling": SamplingConfig(strategy="sampling", branches=6, max_new_tokens=24, temperature=1.3, top_p=0.9),
}
#: Largest difference of a statistic in nats, and mean difference of a logprob, between decoding token by token and one
#: pass. Half precision rounds states and logits along the way: 0.43 and 0.028 were measured in bfloat16, 0.056 and
#: 0.004 in float16, 1.8e-5 and 1.3e-6 in float32, on models of random weights, which round worse than trained ones.
PARITY = {torch.float32: (3e-5, 5e-6), torch.float16: (0.1, 0.01), torch.bfloat16: (0.8, 0.06)}


def words() -> PreTrainedTokenizerFast:
    """One word a token."""
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCABULARY)}, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="t2")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(tiny_model("llama"))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("dtype", PARITY)
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "mamba"])
def test_what_sampling_recorded(name: str, dtype: torch.dtype, strategy: str) -> None:
    model = tiny_model(name).to(dtype)
    requests = [SamplingRequest(f"p{number}", tuple(tokens(4 + 3 * number, seed=number))) for number in range(4)]
    groups = TransformersEngine(model, words()).sample(requests, STRATEGIES[strategy])
    recorded = [trace for group in groups for trace in group]
    scorer = Scorer(model)
    assert scorer.way == "fused"
    scored = list(scorer.score(recorded))
    largest, mean = PARITY[dtype]
    for one, other in zip(recorded, scored, strict=True):
        assert_equal_statistics(one.statistics, other.statistics, largest)
    differences = [
        abs(one.statistics.logprob - other.statistics.logprob) for one, other in zip(recorded, scored, strict=True)
    ]
    assert np.concatenate(differences).mean() < mean


@pytest.mark.parametrize("name", ["llama", "mamba", "openai-gpt"])
def test_results_depend_neither_on_the_batch_nor_on_the_neighbours(name: str) -> None:
    scorer = Scorer(tiny_model(name))
    traces = groups_of_traces(prompts=[6, 9, 3, 6], completions=[1, 12, 5, 12])
    expected = list(scorer.score(traces))
    for batch_tokens in (1, 40, 100_000):
        scorer.batch_tokens = batch_tokens
        for one, other in zip(scorer.score(traces), expected, strict=True):
            assert_equal_statistics(one.statistics, other.statistics, 2e-5)
    for one, other in zip(scorer.score(reversed(traces)), reversed(expected), strict=True):
        assert one.trace_id == other.trace_id
        assert_equal_statistics(one.statistics, other.statistics, 2e-5)


def test_the_same_call_gives_the_same_bits(scorer: Scorer) -> None:
    traces = groups_of_traces(prompts=[6, 9], completions=[4, 12])
    for one, other in zip(scorer.score(traces), scorer.score(traces), strict=True):
        for name in STATISTIC_NAMES:
            np.testing.assert_array_equal(getattr(one.statistics, name), getattr(other.statistics, name))


def test_all_else_of_a_trace_stays(scorer: Scorer) -> None:
    [before] = [trace([5, 6], [7, 8, 9], prompt_id="q", index=3, text="x", answer=Answer("8", 1, 2), failure="odd")]
    [after] = scorer.score([before])
    for field in ("prompt_id", "index", "strategy", "text", "finish_reason", "answer", "failure"):
        assert getattr(after, field) == getattr(before, field)
    np.testing.assert_array_equal(after.token_ids, before.token_ids)


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_only_the_answers(name: str) -> None:
    scorer = Scorer(tiny_model(name))
    traces = groups_of_traces(prompts=[6, 9], completions=[7, 12, 9, 3])
    for whole, part in zip(scorer.score(traces), scorer.score(traces, positions="answer"), strict=True):
        span = slice(0, 0) if part.answer is None else slice(part.answer.start, part.answer.end)
        assert_equal_statistics(part.statistics[span], whole.statistics[span], 2e-5)
        outside = np.ones(len(part.token_ids), dtype=bool)
        outside[span] = False
        assert outside.any()
        for field in FLOATS:
            np.testing.assert_array_equal(np.isnan(getattr(part.statistics, field)), outside)
        np.testing.assert_array_equal(part.statistics.top1_id == -1, outside)
        assert part.statistics.vocabulary_size == VOCABULARY


def shapes_read(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Of every forward pass from here on, the shape of its ids."""
    shapes: list[tuple[int, ...]] = []
    forward = type(scorer.model).forward

    def noting(self: PreTrainedModel, input_ids: torch.Tensor, **options: object) -> object:
        shapes.append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(scorer.model, "forward", noting.__get__(scorer.model))
    return shapes


def test_an_answer_is_read_no_further_than_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(tiny_model("llama"))
    shapes = shapes_read(scorer, monkeypatch)
    traces = [
        trace(tokens(5, 1), tokens(40, index), index=index, answer=Answer("1", 0, end))
        for index, end in enumerate((1, 3, 4))
    ]
    list(scorer.score(traces, positions="answer"))
    assert shapes == [(1, 5), (3, 3)], "the prompt once, then all but the last token of each answer"


@pytest.mark.parametrize("batch_tokens", [8192, 40])
def test_a_prompt_is_read_once_for_all_its_traces(batch_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(tiny_model("llama"), batch_tokens=batch_tokens)
    shapes = shapes_read(scorer, monkeypatch)
    one, other, lone = (tokens(length, length) for length in (8, 6, 7))
    prompts = [one, other, one, lone, other, one]
    traces = [trace(prompt, tokens(5, number), index=number) for number, prompt in enumerate(prompts)]
    scored = list(scorer.score(traces))
    if batch_tokens == 8192:
        assert shapes == [(1, 11), (2, 8), (5, 4)], "the lone row whole, two prompts, five completions"
    else:
        assert max(rows * width for rows, width in shapes) <= 40
        assert sum(rows for rows, width in shapes if width == 4) == 5
    for found in scored:
        assert_statistics(found, scorer.model, 2e-5)


def test_rows_that_begin_alike_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(tiny_model("llama"))
    shapes = shapes_read(scorer, monkeypatch)
    prompt = tokens(8, 1)
    ids = torch.tensor([prompt + tokens(5, number) for number in range(4)])
    keep = torch.zeros_like(ids, dtype=torch.bool)
    keep[:, 8:] = True
    keep[:, 10] = False
    columns = scorer.statistics(ids, torch.ones_like(ids), keep)
    assert shapes == [(1, 8), (4, 4)]
    logits = torch.cat([ordinary_logits(scorer.model, prompt, row[8:].tolist()) for row in ids])
    assert_matches(columns, logits[keep[:, 8:].flatten()], ids[keep], 2e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom"])
def test_padding_needs_no_positions_beyond_the_context(name: str) -> None:
    scorer = Scorer(tiny_model(name))
    lengths = [(250, 3), (250, 6), (10, 240), (10, 5)]
    traces = [trace(tokens(prompt, prompt), tokens(size, size), index=size) for prompt, size in lengths]
    for scored in scorer.score(traces):
        assert_statistics(scored, scorer.model, 5e-5)


def test_positions_that_turn_otherwise_in_long_sequences() -> None:
    """LongRoPE chooses its factors by the longest sequence of a batch."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 16,
        "short_factor": [1.0] * 4,
        "long_factor": [3.0] * 4,
    }
    scorer = Scorer(tiny_model("phi3", rope_parameters=rope, original_max_position_embeddings=16))
    traces = groups_of_traces(prompts=[6, 9], completions=[3, 8, 9, 11, 12, 30])
    for scored in scorer.score(traces):
        assert_statistics(scored, scorer.model, 2e-5)
    [alone] = scorer.score(traces[:1])
    long = trace(traces[0].prompt_token_ids, [*traces[0].token_ids, *tokens(40, 5)])
    [longer] = scorer.score([long])
    assert abs(alone.statistics.logprob - longer.statistics.logprob[:3]).max() > 1e-2, "the factors must matter"


@pytest.mark.parametrize("name", ["llama", "openai-gpt"])
def test_one_token_completions_depend_on_the_prompt_alone(name: str) -> None:
    """What the off-by-one of published code breaks."""
    scorer = Scorer(tiny_model(name))
    prompt = tokens(6, seed=3)
    scored = list(scorer.score(trace(prompt, [token], index=token) for token in range(3, 9)))
    assert len({float(one.statistics.logprob[0]) for one in scored}) == 6
    for field in ("entropy", "self_certainty", "logsumexp", "top1_logprob"):
        values = [float(getattr(one.statistics, field)[0]) for one in scored]
        assert max(values) - min(values) <= 2e-6
    [other] = scorer.score([trace(tokens(6, seed=4), [3])])
    assert abs(other.statistics.entropy[0] - scored[0].statistics.entropy[0]) > 1e-3


def test_traces_stream_in_windows() -> None:
    scorer = Scorer(tiny_model("llama"), batch_tokens=16)
    taken = 0

    def endless() -> Iterator[Trace]:
        nonlocal taken
        while True:
            taken += 1
            yield trace(tokens(5, seed=taken // 4), tokens(3, seed=taken), prompt_id=str(taken))

    scored = scorer.score(endless())
    for number in range(1, 60):
        assert next(scored).prompt_id == str(number)
        assert taken - number <= 8 * 16 / 8


def test_gradients_and_modes_are_left_alone() -> None:
    model = tiny_model("llama", attention_dropout=0.5)
    model.train()
    model.model.norm.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    scorer = Scorer(model)
    scored = scorer.score(groups_of_traces([5, 7], [4, 6]))
    first = next(scored)
    assert torch.is_grad_enabled()
    assert {name: module.training for name, module in model.named_modules()} == modes
    columns = scorer.statistics(torch.tensor([[5, 6, 7]]), torch.ones(1, 3), torch.tensor([[False, True, True]]))
    assert not any(column.is_inference() or column.requires_grad for column in columns)
    model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval()
    assert_statistics(first, model, 2e-5)


@given(masks=st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_padding_anywhere(scorer: Scorer, masks: list[list[bool]], seed: int) -> None:
    """What the mask leaves of a row is a sequence of its own."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.tensor(masks)
    ids = torch.randint(3, VOCABULARY, mask.shape, generator=generator).masked_fill(~mask, -100)
    keep = mask & (mask.cumsum(1) > 1) & (torch.rand(mask.shape, generator=generator) < 0.6)
    columns = scorer.statistics(ids, mask.long(), keep)
    logits, chosen = [], []
    for row, kept, real in zip(ids, keep, mask, strict=True):
        if kept.any():
            sequence = row[real].tolist()
            logits.append(ordinary_logits(scorer.model, sequence[:1], sequence[1:])[kept[real][1:]])
            chosen.append(row[kept])
    if not logits:
        assert all(len(column) == 0 for column in columns)
        return
    assert_matches(columns, torch.cat(logits), torch.cat(chosen), 2e-5)


def test_rows_are_split_by_the_bound_on_tokens(scorer: Scorer) -> None:
    ids = torch.tensor([tokens(12, seed) for seed in range(7)])
    keep = torch.ones_like(ids, dtype=torch.bool)
    keep[:, :3] = False
    keep[2] = False
    keep[4, 6:] = False
    whole = scorer.statistics(ids, torch.ones_like(ids), keep)
    small = Scorer(scorer.model, batch_tokens=20).statistics(ids, torch.ones_like(ids), keep)
    for one, other in zip(whole, small, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)


def test_logits_that_would_not_fit_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    model.lm_head.register_forward_hook(lambda module, inputs, output: output)
    scorer = Scorer(model)
    assert scorer.way == "logits"
    sizes: list[int] = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: sizes.append(output.numel()))
    for most in (1, 4 * VOCABULARY, 60 * VOCABULARY):
        monkeypatch.setattr("rlsf.scoring.readers.LOGITS", most)
        sizes.clear()
        scored = list(scorer.score(groups_of_traces([5, 9], [1, 8, 3])))
        assert max(sizes) <= max(most, VOCABULARY)
        for one in scored:
            assert_statistics(one, model, 2e-5)


REFUSED = {
    "no prompt": (trace([], [5, 6]), "has no prompt"),
    "no completion": (trace([5, 6], []), "has no tokens"),
    "strange prompt": (trace([5, VOCABULARY], [6]), f"the prompt of .* token id {VOCABULARY}"),
    "strange completion": (trace([5, 6], [7, -1]), "the completion of .* token id -1"),
    "too long": (trace(tokens(200, 1), tokens(57, 2)), "257 tokens with its prompt and the model's context 256"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_trace_that_cannot_be_scored_is_named(case: str, scorer: Scorer) -> None:
    odd, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        list(scorer.score([trace([5], [6], prompt_id="fine"), odd]))
    assert "'p#0'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trace_as_long_as_the_context(scorer: Scorer) -> None:
    [scored] = scorer.score([trace(tokens(200, 1), tokens(56, 2))])
    assert_statistics(scored, scorer.model, 3e-5)


@pytest.mark.parametrize(
    ("ids", "mask", "keep", "message"),
    [
        ([[5, 6]], [[1, 1]], [[True, True]], "row 0 has no prompt"),
        ([[5, 6]], [[1, 0]], [[False, True]], "padding in row 0"),
        ([[5, 6], [5, VOCABULARY]], [[1, 1]] * 2, [[False, True]] * 2, f"row 1 holds token id {VOCABULARY}"),
        ([[5] * 257], [[1] * 257], [[False] * 256 + [True]], "row 0 has 257 tokens"),
        ([[5, 6]], [[1, 1, 1]], [[False, True]], "shapes"),
        ([5, 6], [1, 1], [False, True], "shapes"),
        ([[5, 6]], [[1, 1]], [[0, 1]], "boolean"),
    ],
)
def test_batches_that_do_not_fit(ids: list, mask: list, keep: list, message: str, scorer: Scorer) -> None:
    with pytest.raises(InputError, match=message):
        scorer.statistics(torch.tensor(ids), torch.tensor(mask), torch.tensor(keep))


@pytest.mark.parametrize("alone", [True, False])
def test_states_that_are_no_numbers_name_the_trace(alone: bool) -> None:
    """An embedding that overflows: the traces before it are fine, and the self-check does not meet it."""
    model = tiny_model("llama", tie_word_embeddings=False)
    scorer = Scorer(model)
    with torch.no_grad():
        model.model.embed_tokens.weight[300] = torch.inf
    bad = trace([5, 6], [7, 300, 9, 10], prompt_id="bad")
    traces = [trace([5, 6], [7, 8, 9], prompt_id="good"), bad]
    with pytest.raises(ModelError, match="trace 'bad#0' are not finite"):
        list(scorer.score([bad] if alone else traces))


def test_positions_that_do_not_exist(scorer: Scorer) -> None:
    with pytest.raises(InputError, match="positions='answers': use completion or answer"):
        scorer.score([], positions="answers")  # type: ignore[arg-type]


def test_a_bound_on_tokens_below_one() -> None:
    with pytest.raises(InputError, match="batch_tokens=0"):
        Scorer(tiny_model("llama"), batch_tokens=0)


def test_missing_statistics() -> None:
    missing = TokenStatistics.missing(3, 50)
    assert (len(missing), missing.vocabulary_size) == (3, 50)
    assert missing.top1_id.tolist() == [-1, -1, -1]
    assert missing.top1_id.dtype == np.int32
    for field in FLOATS:
        assert np.isnan(getattr(missing, field)).all()
        assert getattr(missing, field).dtype == np.float32
    assert np.isnan(missing.disparity).all()
    assert len(TokenStatistics.missing(0, 50)) == 0


def test_from_a_folder(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.save_pretrained(tmp_path)
    words().save_pretrained(tmp_path)
    scorer = rlsf.Scorer.from_pretrained(str(tmp_path), device="cpu", dtype="float32", batch_tokens=64)
    assert scorer.tokenizer is not None
    assert scorer.batch_tokens == 64
    [scored] = scorer.score([trace([5, 6], [7, 8])])
    assert_statistics(scored, model, 2e-5)


def test_the_scorer_by_its_short_name() -> None:
    assert rlsf.Scorer is Scorer
    with pytest.raises(AttributeError, match="Scorre"):
        _ = rlsf.Scorre
