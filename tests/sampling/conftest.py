"""Tiny models of several architectures, a table that is a language model, tokenizers, and an independent reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from rlsf.sampling.engine import SamplingRequest

VOCABULARY = 320
EOS = 2
_TEXTS = ["The answer is 42. There are 12 apples and 30 pears in all. Stop here: naïve café, 数 5!"] * 20
_ATTENTION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
_GROUPED = {**_ATTENTION, "num_key_value_heads": 2}
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 8},
    "phi": _GROUPED,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": 256,
    },
    "gpt_neox": _ATTENTION,
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mistral": {**_GROUPED, "sliding_window": 6},
    "gemma2": {**_GROUPED, "head_dim": 8, "sliding_window": 6, "attn_implementation": "eager"},
    "gemma3_text": {**_GROUPED, "head_dim": 8, "sliding_window": 6},
    "mixtral": {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "expand": 2, "conv_kernel": 3},
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "lfm2": {**_GROUPED, "layer_types": ["conv", "full_attention"], "block_multiple_of": 16},
}


@pytest.fixture(scope="session")
def model_of() -> Callable[..., PreTrainedModel]:
    """``model_of("llama")``: a tiny random model whose logits are spread so widely that near ties are rare."""

    def build(architecture: str, **changes: Any) -> PreTrainedModel:
        torch.manual_seed(0)
        common = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": EOS, "pad_token_id": None}
        config = AutoConfig.for_model(architecture, **{**common, **_ARCHITECTURES[architecture], **changes})
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(4.0)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def table_model() -> Callable[[Sequence[Sequence[float]]], PreTrainedModel]:
    """``table_model(logits)``: a Llama whose next-token logits after token i are row i of a square table."""

    def build(table: Sequence[Sequence[float]]) -> PreTrainedModel:
        logits = torch.tensor(table, dtype=torch.float32)
        size = len(logits)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=size,
                hidden_size=size,
                intermediate_size=4,
                num_hidden_layers=1,
                num_attention_heads=1,
                max_position_embeddings=64,
                rms_norm_eps=0.0,
                eos_token_id=size - 1,
                bos_token_id=None,
            )
        )
        with torch.no_grad():
            model.model.embed_tokens.weight.copy_(torch.eye(size))
            model.model.layers[0].self_attn.o_proj.weight.zero_()
            model.model.layers[0].mlp.down_proj.weight.zero_()
            model.model.norm.weight.fill_(size**-0.5)  # the norm scales a one-hot vector by the root of its length
            model.lm_head.weight.copy_(logits.T)
        return model.eval()

    return build


def _fast(tokenizer: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", bos_token="<s>", **options)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with an end-of-sequence token and no padding token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return _fast(tokenizer)


@pytest.fixture(scope="session")
def tokenizers_of_all_kinds(tokenizer: PreTrainedTokenizerFast) -> dict[str, PreTrainedTokenizerFast]:
    """Byte-level BPE, unigram pieces with metaspaces, and whole words joined by a decoder that writes spaces."""
    special = ["<unk>", "<s>", "</s>"]
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.train_from_iterator(
        _TEXTS, trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    words = Tokenizer(models.WordPiece(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    words.train_from_iterator(
        _TEXTS, trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    )
    return {"bpe": tokenizer, "unigram": _fast(unigram), "wordpiece": _fast(words)}


@pytest.fixture(scope="session")
def letters() -> PreTrainedTokenizerFast:
    """Words ``a b c d e``, then the end of sequence as id 5: for tables of six tokens."""
    vocabulary = {letter: number for number, letter in enumerate("abcde")} | {"</s>": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


@pytest.fixture(scope="session")
def prompts_of() -> Callable[..., list[SamplingRequest]]:
    """``prompts_of(n)``: n prompts of different lengths."""

    def build(count: int) -> list[SamplingRequest]:
        generator = np.random.default_rng(0)
        return [
            SamplingRequest(f"p{i}", tuple(generator.integers(3, VOCABULARY, 3 + 2 * (i % 4)).tolist()), seed=7)
            for i in range(count)
        ]

    return build


@pytest.fixture(scope="session")
def reference_logits() -> Callable[[PreTrainedModel, Sequence[int], Sequence[int]], torch.Tensor]:
    """Logits [T, V] that produced each token of a completion: one unpadded forward pass, no cache, float64."""

    @torch.inference_mode()
    def compute(model: PreTrainedModel, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
        ids = torch.tensor([[*prompt, *completion]])
        logits = model(input_ids=ids).logits[0].double()
        return logits[len(prompt) - 1 : -1]

    return compute
