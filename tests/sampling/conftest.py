"""Tiny random models of several architectures, a tokenizer built here, and an independent reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from rlsf.sampling.engine import SamplingRequest

VOCABULARY = 320
_COMMON = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
_LLAMA_LIKE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": {**_LLAMA_LIKE, "head_dim": 8},
    "phi": _LLAMA_LIKE,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": 256,
    },
    "gpt_neox": {k: v for k, v in _LLAMA_LIKE.items() if k != "num_key_value_heads"},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mistral": {**_LLAMA_LIKE, "sliding_window": 6},
    "gemma2": {**_LLAMA_LIKE, "head_dim": 8, "sliding_window": 6, "attn_implementation": "eager"},
    "gemma3_text": {**_LLAMA_LIKE, "head_dim": 8, "sliding_window": 6},
    "mixtral": {**_LLAMA_LIKE, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "expand": 2, "conv_kernel": 3},
    "lfm2": {**_LLAMA_LIKE, "layer_types": ["conv", "full_attention"], "block_multiple_of": 16},
}


def build_model(architecture: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model with logits spread widely enough that greedy choices are not near ties."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(architecture, **{**_COMMON, **ARCHITECTURES[architecture], **changes})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    return model.eval()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with an end-of-sequence token and no padding token."""
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        ["The answer is 42. There are 12 apples and 30 pears in all. Stop here."] * 20, trainer
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", bos_token="<s>")


@pytest.fixture(scope="session")
def model_of() -> Callable[..., PreTrainedModel]:
    """``model_of("llama")``: a tiny random model."""
    return build_model


@pytest.fixture(scope="session")
def prompts_of() -> Callable[..., list[SamplingRequest]]:
    """``prompts_of(n)``: n prompts of different lengths."""

    def build(count: int, seed: int = 0) -> list[SamplingRequest]:
        generator = np.random.default_rng(seed)
        return [
            SamplingRequest(f"p{i}", tuple(int(v) for v in generator.integers(3, VOCABULARY, 3 + 2 * (i % 4))), seed=7)
            for i in range(count)
        ]

    return build


@pytest.fixture(scope="session")
def next_distribution() -> Callable[[PreTrainedModel, list[int]], torch.Tensor]:
    """The reference: float64 log-probabilities after a sequence, by one unpadded forward pass without a cache."""

    @torch.inference_mode()
    def compute(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        return torch.log_softmax(logits.double(), dim=-1)

    return compute
