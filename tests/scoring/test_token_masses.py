"""Probabilities of sets of tokens after sequences: a plain forward pass in float64 says the same; what is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from architectures import VOCABULARY, tiny_model
from example_traces import tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from rlsf.errors import InputError
from rlsf.scoring import Scorer

Parts = tuple[Sequence[int], Sequence[int]]
SETS = [[3, 7], [4], [9, 10, 11]]
SEQUENCES: list[Parts] = [
    *((tokens(9, seed=0), tokens(length, seed=length)) for length in (1, 4, 0, 6)),
    *((tokens(5, seed=1), tokens(length, seed=length)) for length in (3, 5)),
    ((), tokens(4, seed=2)),
]


def plain(model: PreTrainedModel, sequences: Sequence[Parts], token_sets: Sequence[Sequence[int]]) -> np.ndarray:
    """One forward pass a sequence, and the definition in float64."""
    rows = []
    for shared, own in sequences:
        with torch.no_grad():
            probabilities = model(torch.tensor([[*shared, *own]])).logits[0, -1].double().softmax(-1)
        rows.append([float(probabilities[list(ids)].sum()) for ids in token_sets])
    return np.array(rows)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "mamba", "openai-gpt"])
def test_a_plain_forward_pass(name: str) -> None:
    model = tiny_model(name)
    found = Scorer(model).masses(SEQUENCES, SETS)
    np.testing.assert_allclose(found, plain(model, SEQUENCES, SETS), atol=2e-6)
    double = tiny_model(name).double()
    np.testing.assert_allclose(Scorer(double).masses(SEQUENCES, SETS), plain(double, SEQUENCES, SETS), atol=2e-6)


def test_by_logits_where_the_head_is_no_plain_layer() -> None:
    model = tiny_model("llama")
    expected = plain(model, SEQUENCES, SETS)
    model.get_output_embeddings().register_forward_hook(lambda module, given, out: out)
    scorer = Scorer(model)
    assert scorer.way == "logits"
    np.testing.assert_allclose(scorer.masses(SEQUENCES, SETS), expected, atol=2e-6)


@pytest.mark.parametrize("batch_tokens", [1, 30, 10_000])
def test_results_do_not_depend_on_the_batch(batch_tokens: int) -> None:
    model = tiny_model("llama")
    found = Scorer(model, batch_tokens=batch_tokens).masses(SEQUENCES, SETS)
    np.testing.assert_allclose(found, Scorer(model).masses(SEQUENCES, SETS), atol=2e-6)


@given(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=VOCABULARY - 1, unique=True))
@settings(max_examples=20, deadline=None)
def test_a_set_and_all_others_are_everything(ids: list[int]) -> None:
    others = sorted(set(range(VOCABULARY)) - set(ids))
    masses = Scorer(tiny_model("llama")).masses(SEQUENCES[:2], [ids, others])
    np.testing.assert_allclose(masses.sum(1), 1.0, atol=1e-5)
    assert (masses <= 1).all()


def test_what_is_shared_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    scorer = Scorer(model)
    read: list[int] = []
    forward = type(model).forward

    def counting(self: PreTrainedModel, input_ids: torch.Tensor, **options: object) -> object:
        read.append(input_ids.numel())
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(model, "forward", counting.__get__(model))
    shared = tokens(20, seed=0)
    scorer.masses([(shared, tokens(3, seed=number)) for number in range(6)], SETS)
    assert sum(read) == 20 + 6 * 3


@pytest.mark.parametrize(
    ("sequences", "sets", "needle"),
    [
        ([((), ())], SETS, "sequence 0 has no prompt"),
        ([(tokens(3, seed=0), [VOCABULARY])], SETS, "outside the model's vocabulary"),
        (SEQUENCES, [[]], "token set 0 is empty"),
        (SEQUENCES, [[1], [2, 2]], "token set 1 names a token twice"),
        (SEQUENCES, [[VOCABULARY]], f"token id {VOCABULARY}"),
    ],
)
def test_mistakes(sequences: list[Parts], sets: list[list[int]], needle: str) -> None:
    with pytest.raises(InputError, match=needle):
        Scorer(tiny_model("llama")).masses(sequences, sets)


def test_nothing_is_asked() -> None:
    assert Scorer(tiny_model("llama")).masses([], SETS).shape == (0, 3)
