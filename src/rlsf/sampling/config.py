"""How traces are sampled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlsf.config import Section


class SamplingConfig(Section):
    """CoT-decoding branches (arXiv 2402.10200) or temperature sampling, and the bounds of both."""

    strategy: Literal["cot_decoding", "sampling"] = "cot_decoding"
    """``cot_decoding``: the ``branches`` most likely first tokens, each continued. ``sampling``: ``branches``
    independent samples."""
    branches: int = Field(default=10, ge=1)
    """Traces per prompt (K)."""
    continuation: Literal["greedy", "sampled"] = "greedy"
    """How a CoT-decoding branch goes on after its first token."""
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits before sampling; recorded statistics always refer to temperature 1."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus: the smallest set of tokens whose probability reaches this."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Drop tokens less likely than this fraction of the most likely one."""
    top_k: int = Field(default=0, ge=0)
    """Keep only this many tokens; 0 keeps all."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Token budget of a trace; a trace cut here is marked truncated."""
    stop: tuple[str, ...] = ()
    """Strings that end a trace once they appear in its text. The token that completes one stays in the trace; the text
    ends before the string."""
    batch_tokens: int = Field(default=65536, ge=1)
    """Upper bound on cached tokens decoded at once: rows x (prompt + ``max_new_tokens``), a prompt that its rows share
    counted once. It bounds memory; results do not depend on it."""
    shard_prompts: int = Field(default=64, ge=1)
    """Prompts per Parquet shard: the unit of work of a process and of resume."""
    workers: int | Literal["auto"] = "auto"
    """Processes that sample disjoint prompts; ``auto``: one a core on CPU, one otherwise. Always one where a server or
    vLLM samples, which batch by themselves."""
