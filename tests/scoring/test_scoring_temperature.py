"""Statistics at the temperature of sampling: by hidden states and by logits."""

from __future__ import annotations

import pytest
import torch
from architectures import tiny_model
from example_traces import ordinary_logits, tokens
from float64_reference import assert_matches

from rlsf.errors import InputError
from rlsf.scoring import Scorer


@pytest.mark.parametrize("by_logits", [False, True])
def test_logits_are_divided_by_the_temperature(by_logits: bool) -> None:
    model = tiny_model("gemma2")
    if by_logits:  # a hook on the output embedding leaves no other way
        model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: 2 * output)
    scorer = Scorer(model)
    assert scorer.way == ("logits" if by_logits else "fused")
    prompt, completion = tokens(5, seed=1), tokens(6, seed=2)
    ids = torch.tensor([[*prompt, *completion]])
    keep = torch.arange(11).unsqueeze(0) >= 5
    logits = ordinary_logits(model, prompt, completion).double()
    for temperature in (0.6, 1.0, 1.7):
        columns = scorer.statistics(ids, torch.ones_like(ids), keep, temperature=temperature)
        assert_matches(columns, logits / temperature, torch.tensor(completion), 2e-5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperatures_that_are_none(temperature: float) -> None:
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(InputError, match="temperature="):
        Scorer(tiny_model("llama")).statistics(ids, torch.ones_like(ids), ids > 1, temperature=temperature)
