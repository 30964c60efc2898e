"""How vLLM holds a model, and whether it is there to hold one."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from pydantic import Field, field_validator

from rlsf.config import Section
from rlsf.errors import InputError

#: Arguments of vLLM that the engine sets itself, so that traces are what they are with every engine.
_SET_ELSEWHERE = {
    **dict.fromkeys(("model", "tokenizer", "revision"), "model.path"),
    **dict.fromkeys(("dtype", "trust_remote_code"), "the field of model with this name"),
    **dict.fromkeys(("max_model_len", "gpu_memory_utilization", "enforce_eager"), "the field of model.vllm"),
    **dict.fromkeys(("logprobs_mode", "max_logprobs", "generation_config", "seed"), "nothing: traces rely on it"),
    **dict.fromkeys(("enable_lora", "max_lora_rank"), "nothing: the adapter in model.path decides"),
    "kv_cache_memory_bytes": "model.vllm.cache_gib",
}


class VllmConfig(Section):
    """vLLM's engine in a process beside this one (``model.engine: vllm``)."""

    max_model_len: int | None = Field(default=None, ge=2)
    """Most tokens of prompt and completion together; None: the model's own context."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory that vLLM takes for weights and cache. Lower it where a signal needs whole distributions:
    these are measured by a second copy of the model, on the same device."""
    cache_gib: float | None = Field(default=None, gt=0)
    """Memory for the cache of keys and values, in GiB; None: what the share above leaves."""
    enforce_eager: bool = False
    """No compilation and no CUDA graphs: starts sooner, decodes slower."""
    engine_arguments: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of ``vllm.LLM``, for example ``{tensor_parallel_size: 2}``."""

    @field_validator("engine_arguments")
    @classmethod
    def _are_not_set_elsewhere(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        for name in arguments:
            if name in _SET_ELSEWHERE:
                raise ValueError(f"{name} is not for engine_arguments: use {_SET_ELSEWHERE[name]}")
        return arguments


def require_vllm() -> None:
    """Raise ``InputError`` where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise InputError(
            "model.engine=vllm, and vLLM is not installed: pip install 'rlsf[vllm]' on a machine with a GPU, `make"
            " vllm` on one without, or use model.engine=transformers"
        )
