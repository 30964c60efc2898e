"""Output embeddings of every make: tied, adapted, trained apart, post-processed in known and unknown ways."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
import torch
from architectures import VOCABULARY, tiny_model
from example_traces import assert_statistics, groups_of_traces
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlsf.errors import InputError, ModelError
from rlsf.scoring import Scorer
from rlsf.scoring.output_head import find_post_processing, last_layer
from rlsf.scoring.self_check import verdict_on

TOLERANCE = 3e-5


def assert_scores(scorer: Scorer) -> None:
    traces = groups_of_traces(prompts=[5, 8], completions=[1, 9])
    for scored in scorer.score(traces):
        assert_statistics(scored, scorer.model, TOLERANCE)


def postprocessed(model: PreTrainedModel, change: Callable[[Tensor], Tensor]) -> PreTrainedModel:
    """A model of another class that does something more to its logits."""

    usual = type(model)

    class Odd(usual):  # type: ignore[misc,valid-type]
        @wraps(usual.forward)
        def forward(self, *arguments: Any, **options: Any) -> Any:
            outputs = usual.forward(self, *arguments, **options)
            outputs.logits = change(outputs.logits)
            return outputs

    model.__class__ = Odd
    return model


def adapted(**options: Any) -> Any:
    """A Llama with an adapter whose matrices are not zero."""
    torch.manual_seed(1)
    model = get_peft_model(tiny_model("llama"), LoraConfig(r=3, lora_dropout=0.5, **options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gpt_neox", "bloom", "mamba"])
def test_tied_and_untied_embeddings(name: str, tied: bool) -> None:
    model = tiny_model(name, tie_word_embeddings=tied)
    layer: Any = model.get_output_embeddings()
    assert (layer.weight is model.get_input_embeddings().weight) == tied
    scorer = Scorer(model)
    assert scorer.way == "fused"
    assert_scores(scorer)


def test_a_bias_of_the_output_embedding() -> None:
    model = tiny_model("phi")
    layer = last_layer(model)
    nn.init.normal_(layer.bias)
    scorer = Scorer(model)
    assert scorer.way == "fused"
    assert_scores(scorer)


def test_an_adapter_on_attention() -> None:
    model = adapted(target_modules=["q_proj", "v_proj"])
    scorer = Scorer(model)
    assert scorer.way == "fused"
    assert_scores(scorer)
    with model.disable_adapter():
        assert_scores(scorer)


def test_an_output_embedding_that_an_adapter_trains_apart() -> None:
    model = adapted(target_modules=["q_proj"], modules_to_save=["lm_head"])
    scorer = Scorer(model)
    assert scorer.way == "fused"
    assert_scores(scorer)
    trained = last_layer(model)
    with model.disable_adapter():
        assert last_layer(model) is not trained
        assert scorer.way == "fused"
        assert_scores(scorer)
    assert_scores(scorer)


def test_an_adapter_on_the_output_embedding_goes_by_logits(caplog: pytest.LogCaptureFixture) -> None:
    model = adapted(target_modules=["q_proj", "lm_head"])
    with caplog.at_level(logging.WARNING):
        scorer = Scorer(model)
        assert_scores(scorer)
        Scorer(model)
    assert scorer.way == "logits"
    assert "not a plain linear layer" in scorer.reason
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "LlamaForCausalLM is scored by its logits"
    ], "said once"


def test_tokens_before_the_prompt_are_refused() -> None:
    model: Any = get_peft_model(tiny_model("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(InputError, match="tokens before the prompt"):
        Scorer(model)


ODDITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "a bias afterwards": lambda logits: logits + torch.linspace(-2, 2, logits.shape[-1]),
    "a constant afterwards": lambda logits: logits + 1.0,
    "a power": lambda logits: logits.sign() * logits.abs() ** 1.25,
    "another cap": lambda logits: 20 * torch.nn.functional.softsign(logits / 20),
    "one token masked": lambda logits: logits.index_fill(-1, torch.tensor([VOCABULARY - 1]), -1e9),
    "normalised": lambda logits: logits.log_softmax(-1),
    "more tokens": lambda logits: torch.cat([logits, torch.zeros_like(logits[..., :3])], dim=-1),
}


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("name", ["qwen2", "mamba"])
def test_unknown_post_processing_goes_by_logits(name: str, oddity: str) -> None:
    scorer = Scorer(postprocessed(tiny_model(name), ODDITIES[oddity]))
    assert scorer.way == "logits", oddity
    assert scorer.reason
    assert_scores(scorer)


def test_post_processing_that_is_known_in_form_is_found_whatever_its_name() -> None:
    model = postprocessed(tiny_model("qwen2"), lambda logits: 11.0 * torch.tanh(-0.7 * logits / 11.0))
    scorer = Scorer(model)
    found = verdict_on(scorer._causal).post_processing
    assert found is not None
    assert found.scale == pytest.approx(-0.7, rel=1e-7)
    assert found.softcap == pytest.approx(11.0, rel=1e-7)
    assert_scores(scorer)


def test_a_vocabulary_cut_to_its_real_tokens() -> None:
    scorer = Scorer(postprocessed(tiny_model("qwen2"), lambda logits: logits[..., :300]))
    assert (scorer.way, scorer.vocabulary_size) == ("fused", 300)
    traces = [t for t in groups_of_traces([5, 8], [4, 7]) if max(*t.token_ids, *t.prompt_token_ids) < 300]
    assert traces
    for scored in scorer.score(traces):
        assert_statistics(scored, scorer.model, TOLERANCE)


def test_a_hook_on_the_output_embedding_goes_by_logits() -> None:
    model = tiny_model("llama")
    last_layer(model).register_forward_hook(lambda module, inputs, output: output * 1.5)
    scorer = Scorer(model)
    assert (scorer.way, scorer.reason) == ("logits", "something else has hooked into its output embedding")
    assert_scores(scorer)


def test_statistics_that_disagree_go_by_logits() -> None:
    """Here because the states are others at every pass."""
    model = tiny_model("llama")
    calls = []
    usual = type(model.model).forward

    def drifting(self: Any, *arguments: Any, **options: Any) -> Any:
        outputs = usual(self, *arguments, **options)
        calls.append(None)
        outputs.last_hidden_state = outputs.last_hidden_state * (1 + 0.1 * len(calls))
        return outputs

    model.model.forward = drifting.__get__(model.model)
    scorer = Scorer(model)
    assert scorer.way == "logits"
    assert "differ" in scorer.reason


def test_a_model_that_looks_ahead_is_refused() -> None:
    with pytest.raises(ModelError, match="depend on later tokens"):
        Scorer(tiny_model("bert", is_decoder=False))


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="not finite"):
        Scorer(model)


def test_the_layer_is_restored_whatever_happens() -> None:
    model = tiny_model("llama")
    layer = last_layer(model)

    def failing(ids: Tensor) -> Tensor:
        assert "forward" in vars(layer)
        raise KeyError("no such thing")

    with pytest.raises(KeyError):
        find_post_processing(layer, failing)
    assert "forward" not in vars(layer)
    list(Scorer(model).score(groups_of_traces([5], [3])))
    assert not [name for name, module in model.named_modules() if "forward" in vars(module)]


def test_weights_that_change_in_place_are_noticed() -> None:
    model = tiny_model("qwen2")
    scorer = Scorer(model)
    assert_scores(scorer)
    with torch.no_grad():
        model.lm_head.weight.mul_(1.3)
    assert_scores(scorer)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach() + 0.1)
    assert_scores(scorer)
