"""Sampling traces: strategies and engines. What needs torch is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rlsf.sampling.config import SamplingConfig

if TYPE_CHECKING:
    from rlsf.sampling.engine import Engine, SamplingRequest
    from rlsf.sampling.openai_engine import OpenAIEngine
    from rlsf.sampling.pool import EnginePool
    from rlsf.sampling.transformers_engine import TransformersEngine
    from rlsf.sampling.vllm_engine import VllmEngine

__all__ = [
    "Engine",
    "EnginePool",
    "OpenAIEngine",
    "SamplingConfig",
    "SamplingRequest",
    "TransformersEngine",
    "VllmEngine",
]

_HOMES = {
    "Engine": "rlsf.sampling.engine",
    "EnginePool": "rlsf.sampling.pool",
    "OpenAIEngine": "rlsf.sampling.openai_engine",
    "SamplingRequest": "rlsf.sampling.engine",
    "TransformersEngine": "rlsf.sampling.transformers_engine",
    "VllmEngine": "rlsf.sampling.vllm_engine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
