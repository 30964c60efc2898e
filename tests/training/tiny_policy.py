"""A tiny Llama, its tokenizer, and preference pairs over its vocabulary: what every training test starts from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 40
CONTEXT = 32


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32, tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=None,
        initializer_range=0.3,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = {"<unk>": 0, "<eos>": 1, **{f"w{i}": i for i in range(2, VOCABULARY)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>")


def tiny_pairs(rows: int = 24, seed: int = 0, equal_lengths: bool = False) -> pa.Table:
    """Random traces; the chosen one ends in the end-of-sequence id, the rejected one does not."""
    random = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return random.integers(2, VOCABULARY, size=high if equal_lengths else random.integers(low, high + 1)).tolist()

    pairs = [
        {
            "prompt_ids": ids(2, 6),
            "chosen_ids": [*ids(2, 8), 1],
            "rejected_ids": ids(2, 8),
            "margin": float(random.uniform(0.1, 1.0)),
            "chosen_confidence": float(random.uniform(0.6, 1.0)),
            "rejected_confidence": float(random.uniform(0.0, 0.5)),
        }
        for _ in range(rows)
    ]
    return pa.Table.from_pylist(pairs)
