"""Tiny random models of many architectures, their distributions far from uniform."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

#: No multiple of 32, nor of what else vocabularies are cut into.
VOCABULARY = 317
_PLAIN = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
_GROUPED = {**_PLAIN, "num_key_value_heads": 2}
_HEADS_OF_8 = {**_GROUPED, "head_dim": 8}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
_OPT = {
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "word_embed_proj_dim": 32,
    "max_position_embeddings": 256,
}
_XGLM = {
    "d_model": 32,
    "ffn_dim": 48,
    "num_layers": 2,
    "attention_heads": 4,
    "max_position_embeddings": 256,
}
_MAMBA = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "expand": 2, "conv_kernel": 3}
_MAMBA2 = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "state_size": 8,
    "expand": 2,
    "num_heads": 8,
    "head_dim": 8,
    "n_groups": 2,
    "chunk_size": 8,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_LATENT = {
    **_PLAIN,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": None,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}

#: Model type (and what is special about it) -> configuration.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 5},
    "mixtral": {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2": _GROUPED,
    "qwen2 untied": {**_GROUPED, "tie_word_embeddings": False},
    "qwen2 tied": {**_GROUPED, "tie_word_embeddings": True},
    "qwen2_moe": {**_GROUPED, **_EXPERTS, "shared_expert_intermediate_size": 24},
    "qwen3": _HEADS_OF_8,
    "qwen3_moe": {**_HEADS_OF_8, **_EXPERTS},
    "gemma": _HEADS_OF_8,
    "gemma2": {**_HEADS_OF_8, "sliding_window": 5, "final_logit_softcapping": 9.0, "query_pre_attn_scalar": 8},
    "gemma3_text": {**_HEADS_OF_8, "sliding_window": 5, "final_logit_softcapping": 7.0, "query_pre_attn_scalar": 8},
    "phi": _GROUPED,
    "phi3": {**_GROUPED, "pad_token_id": 0},
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gptj": {**_GPT, "rotary_dim": 4},
    "codegen": {**_GPT, "rotary_dim": 4},
    "openai-gpt": _GPT,
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 5,
        "max_position_embeddings": 256,
    },
    "gpt_neox": _PLAIN,
    "gpt_neox_japanese": {**_PLAIN, "intermediate_multiple_size": 2},
    "opt": _OPT,
    "opt projected": {**_OPT, "word_embed_proj_dim": 16},
    "xglm": _XGLM,
    "biogpt": _PLAIN,
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "falcon rotary": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": False},
    "falcon alibi": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True},
    "cohere": {**_GROUPED, "logit_scale": 1.7},
    "cohere2": {**_HEADS_OF_8, "logit_scale": 1.7, "sliding_window": 5, "sliding_window_pattern": 2},
    "granite": {**_GROUPED, "logits_scaling": 0.6},
    "granitemoe": {**_GROUPED, "logits_scaling": 0.6, "num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo": _GROUPED,
    "olmo2": _GROUPED,
    "stablelm": _GROUPED,
    "starcoder2": _GROUPED,
    "nemotron": {**_HEADS_OF_8},
    "persimmon": _PLAIN,
    "helium": _HEADS_OF_8,
    "smollm3": _GROUPED,
    "exaone4": {**_GROUPED, "sliding_window": 5, "sliding_window_pattern": 2},
    "glm": {**_HEADS_OF_8, "pad_token_id": 0},
    "glm4": {**_HEADS_OF_8, "pad_token_id": 0},
    "ernie4_5": _HEADS_OF_8,
    "hunyuan_v1_dense": _HEADS_OF_8,
    "seed_oss": _HEADS_OF_8,
    "apertus": _GROUPED,
    "arcee": _GROUPED,
    "nanochat": {**_GROUPED, "final_logit_softcapping": 6.0},
    "deepseek_v2": {**_LATENT, "topk_method": "greedy"},
    "deepseek_v3": _LATENT,
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256, "expansion_ratio": 2},
    "mpt scaled": {
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "max_seq_len": 256,
        "expansion_ratio": 2,
        "logit_scale": "inv_sqrt_d_model",
    },
    "gpt_oss": {**_HEADS_OF_8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 5},
    "hyperclovax": {**_GROUPED, "logits_scaling": 1.3},
    "mamba": _MAMBA,
    "mamba2": _MAMBA2,
    "falcon_mamba": _MAMBA,
    "falcon_h1": {
        **_HEADS_OF_8,
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_chunk_size": 8,
        "lm_head_multiplier": 1.4,
    },
    "recurrent_gemma": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "lru_width": 32,
        "attention_window_size": 16,
        "logits_soft_cap": 8.0,
    },
    "jamba": {
        **_GROUPED,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_d_state": 4,
        "use_mamba_kernels": False,
    },
    "bamba": {
        **_GROUPED,
        "attn_layer_indices": [1],
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_chunk_size": 8,
    },
    "zamba2": {
        **_GROUPED,
        "num_key_value_heads": 4,
        "layers_block_type": ["mamba", "hybrid"],
        "mamba_d_state": 8,
        "n_mamba_heads": 8,
        "mamba_headdim": 8,
        "chunk_size": 8,
        "num_mem_blocks": 1,
        "use_mem_rope": True,
    },
    "lfm2": {**_GROUPED, "layer_types": ["conv", "full_attention"], "block_multiple_of": 16},
    "rwkv": {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, "context_length": 256},
    "bert": {**_PLAIN, "is_decoder": True},
    "roberta": {**_PLAIN, "is_decoder": True, "pad_token_id": 0, "max_position_embeddings": 258},
    "llama4_text": {**_HEADS_OF_8, "num_local_experts": 2, "intermediate_size_mlp": 48, "attention_chunk_size": 8},
    "gemma3n_text": {
        **_HEADS_OF_8,
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "sliding_window": 5,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "laurel_rank": 4,
        "altup_num_inputs": 2,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "glm4_moe": {**_HEADS_OF_8, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    "minimax": {
        **_HEADS_OF_8,
        "num_local_experts": 2,
        "layer_types": ["linear_attention", "full_attention"],
        "block_size": 8,
    },
    "qwen3_next": {
        **_HEADS_OF_8,
        **_EXPERTS,
        "shared_expert_intermediate_size": 24,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "granitemoehybrid": {
        **_GROUPED,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "shared_intermediate_size": 24,
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_chunk_size": 8,
        "logits_scaling": 0.6,
    },
}
#: Their states cannot be shared between rows, or they have none to share.
WITHOUT_SHARING = {
    *("openai-gpt", "mamba", "mamba2", "falcon_mamba", "falcon_h1", "recurrent_gemma", "jamba", "bamba", "zamba2"),
    *("lfm2", "rwkv", "roberta", "llama4_text", "minimax", "qwen3_next", "granitemoehybrid"),
}
#: Matrices are born small, except those of state spaces.
_SPREADS = {"mamba": 2.0, "mamba2": 4.0, "falcon_mamba": 2.0, "rwkv": 4.0}


def tiny_model(name: str, **changes: Any) -> PreTrainedModel:
    """The first word of ``name`` is the model type; ``changes`` are of its configuration."""
    torch.manual_seed(0)
    common = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    config = AutoConfig.for_model(name.split()[0], **{**common, **CONFIGURATIONS[name], **changes})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(_SPREADS.get(name, 20.0))
    return model.eval()
