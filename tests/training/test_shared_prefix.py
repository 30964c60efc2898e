"""Traces in one row give the numbers of a row each: log-probabilities, entropies and gradients, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_policy import VOCABULARY, tiny_model, tiny_pairs, tiny_tokenizer
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM
from trl.trainer.utils import add_fused_lm_head

from rlsf.training import train_preferences
from rlsf.training.collator import PairCollator
from rlsf.training.config import LoraSection, TrainingConfig
from rlsf.training.pairs import REJECTED_PROMPT
from rlsf.training.preference_trainer import PreferenceTrainer
from rlsf.training.shared_prefix import SharedPrefix, drops_out, sharing

IDS = st.integers(2, VOCABULARY - 1)
OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")
ALWAYS = float("-inf")


def fused(attention: str = "sdpa", dtype: torch.dtype = torch.float64) -> LlamaForCausalLM:
    model = tiny_model(dtype=dtype)
    model.set_attn_implementation(attention)
    add_fused_lm_head(model, outputs=OUTPUTS)
    return model


MODELS = {kind: fused(kind) for kind in ("sdpa", "eager")}
# The eager softmax is in float32, where the mask of float64 is infinite, and padding that sees nothing not a number.
PADDED = {"sdpa": MODELS["sdpa"], "eager": fused("eager", torch.float32)}


def ids(low: int, high: int) -> st.SearchStrategy[list[int]]:
    return st.lists(IDS, min_size=low, max_size=high)


@st.composite
def pairs(draw: Any) -> dict[str, list[int]]:
    """Prompts in common, with a beginning in common, or with nothing; traces that may begin alike or be the same."""
    prompt, start = draw(ids(1, 6)), draw(ids(0, 2))
    other = draw(st.one_of(st.just(prompt), ids(1, 6).map(lambda tail: [*prompt, *tail]), ids(1, 6)))
    sides = [[*start, *draw(ids(1, 6))] for _ in range(2)]
    return {"prompt_ids": prompt, "chosen_ids": sides[0], REJECTED_PROMPT: other, "rejected_ids": sides[1]}


@st.composite
def passes(draw: Any) -> tuple[dict[str, torch.Tensor], int]:
    """Whole groups and parts of them, in any order, padded as TRL does, cut ones masked; and the prompts' columns."""
    prompts = draw(st.lists(ids(1, 6), min_size=1, max_size=3))
    rows = [(prompt, draw(ids(1, 5))) for prompt in prompts for _ in range(draw(st.integers(1, 5)))]
    rows = draw(st.permutations(rows))
    left, right = (max(len(row[side]) for row in rows) for side in (0, 1))
    input_ids = torch.zeros(len(rows), left + right, dtype=torch.int64)
    attention, completion = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
    for number, (prompt, trace) in enumerate(rows):
        input_ids[number, left - len(prompt) : left + len(trace)] = torch.tensor(prompt + trace)
        completion[number, left : left + len(trace)] = draw(st.integers(0, 3)) > 0
        attention[number] = completion[number]
        attention[number, left - len(prompt) : left] = 1
    return {"input_ids": input_ids, "attention_mask": attention, "completion_mask": completion}, left


def outputs(model: Any, batch: dict[str, torch.Tensor]) -> Any:
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    given = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}
    return model(**given, fused_lm_head=True, use_cache=False)


def gradients(model: Any, read: Any) -> dict[str, torch.Tensor]:
    """Of a function in which each token's log-probability and entropy has a weight of its own."""
    weights = torch.linspace(0.5, 2, read.log_probs.numel(), dtype=torch.float64).view_as(read.log_probs)
    model.zero_grad()
    ((weights * read.log_probs).sum() + (weights.flip(0) * read.entropy).sum()).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


@settings(max_examples=40, deadline=None)
@given(st.lists(pairs(), min_size=1, max_size=4), st.booleans(), st.sampled_from(["sdpa", "eager"]))
def test_one_row_is_two(rows: list[dict[str, list[int]]], joint: bool, kind: str) -> None:
    model = MODELS[kind]
    batch = PairCollator(pad_token_id=0, joint=joint)(rows)
    assert_same(model, batch, SharedPrefix(model, eager=kind == "eager", saving=ALWAYS))


@settings(max_examples=60, deadline=None)
@given(passes(), st.sampled_from([float("inf"), 4.0]), st.sampled_from(["sdpa", "eager"]))
def test_one_row_is_all_of_a_group(given: tuple[dict[str, torch.Tensor], int], width: float, kind: str) -> None:
    """Whatever number of sides is put into one row."""
    batch, prompt = given
    shared = SharedPrefix(PADDED[kind], eager=kind == "eager", saving=ALWAYS, width=width, prompt=prompt)
    assert_same(PADDED[kind], batch, shared)


def assert_same(model: Any, batch: dict[str, torch.Tensor], shared: SharedPrefix) -> None:
    several, one = outputs(model, batch), outputs(shared, batch)
    for name in OUTPUTS:
        # TRL's head computes these in float32.
        assert torch.allclose(getattr(one, name).double(), getattr(several, name).double(), atol=2e-5, rtol=0), name
    assert torch.equal(one.label_mask, several.label_mask)
    expected = gradients(model, several)
    for name, gradient in gradients(model, one).items():
        assert torch.allclose(gradient, expected[name], atol=1e-4 * (1 + expected[name].abs().max()), rtol=0), name


class Spy:
    """A model that notes the shapes it is given."""

    def __init__(self, model: Any) -> None:
        self.model, self.shapes = model, []

    def __call__(self, *, input_ids: torch.Tensor, **options: Any) -> Any:
        self.shapes.append(tuple(input_ids.shape))
        return self.model(input_ids=input_ids, **options)


def test_the_prompt_is_read_once_where_that_saves_enough() -> None:
    spy = Spy(MODELS["sdpa"])
    for prompt, trace in ((10, 4), (2, 9)):
        row = {"prompt_ids": [3] * prompt, "chosen_ids": [4] * trace, "rejected_ids": [5] * trace}
        outputs(SharedPrefix(spy), PairCollator(pad_token_id=0)([row, row]))
    assert spy.shapes == [(2, 9 + 4 + 4), (4, 11)]


def group(prompt: int, traces: int, length: int) -> dict[str, torch.Tensor]:
    """Traces of one prompt that have no token in common."""
    completion = torch.tensor([[0] * prompt + [1] * length] * traces)
    ids = torch.arange(2, 2 + traces)[:, None].where(completion.bool(), 20)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": completion}


def test_as_many_sides_share_a_row_as_is_cheapest(monkeypatch: pytest.MonkeyPatch) -> None:
    spy, batch = Spy(MODELS["sdpa"]), group(8, 8, 4)
    outputs(SharedPrefix(spy, prompt=8), batch)  # 7 in common, then 8 x 4: the last prompt token, and 3 of the trace
    outputs(SharedPrefix(spy, prompt=8, width=8), batch)
    monkeypatch.setattr("rlsf.training.shared_prefix._LONGEST", 38)
    outputs(SharedPrefix(spy, prompt=8), batch)
    monkeypatch.setattr("rlsf.training.shared_prefix._LONGEST", 14)
    outputs(SharedPrefix(spy, prompt=8), batch)
    assert spy.shapes == [(1, 39), (4, 15), (2, 23), (8, 12)]


def test_what_cannot_be_joined_is_read_as_it_is() -> None:
    """Rows with gaps, and rows that come with something else of each, such as images."""
    spy, batch = Spy(MODELS["sdpa"]), group(8, 2, 4)
    shared = SharedPrefix(spy, prompt=8)
    shared(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        labels=batch["input_ids"],
        fused_lm_head=True,
        position_ids=torch.arange(12)[None],
    )
    batch["attention_mask"][1, 3] = 0
    outputs(shared, batch)
    assert spy.shapes == [(2, 12), (2, 12)]


def test_who_can_share() -> None:
    assert sharing(fused(), left_padded=True) is not None
    assert sharing(fused()) is not None
    assert sharing(fused("eager")) is not None
    assert sharing(fused(dtype=torch.bfloat16)) is not None
    windowed = MistralForCausalLM(
        MistralConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            sliding_window=8,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    )
    add_fused_lm_head(windowed)
    assert sharing(windowed) is None


def test_a_model_that_gives_other_numbers_is_found_out() -> None:
    """One that numbers positions by column, whatever it is told."""

    model = tiny_model()
    add_fused_lm_head(model)
    backbone = model.model.forward
    model.model.forward = lambda *arguments, position_ids=None, **options: backbone(*arguments, **options)
    assert sharing(model) is None


def train(folder: Path, model: Any, **changes: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    train_preferences(
        model=model,
        tokenizer=tiny_tokenizer(),
        preferences=tiny_pairs(),
        config=TrainingConfig(batch_size=8, learning_rate=0.5, max_steps=3, trainer={"optim": "sgd"}, **changes),
        folder=folder,
        policy_folder=folder / "policy",
        seed=7,
        record=events.append,
    )
    return events


@pytest.mark.parametrize("changes", [{}, {"precompute_reference": False}, {"lora": LoraSection()}])
def test_training_is_the_same(tmp_path: Path, changes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and metrics, with every batch in one row a pair and in two."""
    spied: list[Spy] = []

    def reader(trainer: PreferenceTrainer, model: Any) -> Any:
        spied.append(Spy(model))
        return SharedPrefix(spied[-1], saving=ALWAYS)

    two, one = tiny_model(), tiny_model()
    monkeypatch.setattr(PreferenceTrainer, "_sharing", None)
    expected = train(tmp_path / "two", two, **changes)
    monkeypatch.setattr(PreferenceTrainer, "_reader", reader)
    found = train(tmp_path / "one", one, **changes)
    read = {rows for spy in spied for rows, _ in spy.shapes}
    assert read
    assert read <= set(range(1, 9))
    for before, after in zip(expected, found, strict=True):
        # At the start the margins are zero up to rounding, of either sign.
        del before["rewards/accuracies"], after["rewards/accuracies"]
        assert after == pytest.approx(before, abs=1e-4)
    start = tiny_model().state_dict()
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, two.state_dict()[name], atol=1e-5, rtol=0)
        assert changes.get("lora") or (tensor - start[name]).abs().max() > 1e-3


def test_adapters_that_drop_out_read_each_side_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    inner = PreferenceTrainer._reader

    def reader(trainer: PreferenceTrainer, model: Any) -> Any:
        chosen = inner(trainer, model)
        seen.append((model.training, isinstance(chosen, SharedPrefix)))
        return chosen

    monkeypatch.setattr(PreferenceTrainer, "_reader", reader)
    train(tmp_path / "dropping", tiny_model(), lora=LoraSection(dropout=0.3))
    assert set(seen) == {(False, True), (True, False)}
    seen.clear()
    train(tmp_path / "plain", tiny_model(), lora=LoraSection())
    assert set(seen) == {(False, True), (True, True)}
    assert not drops_out(tiny_model())
