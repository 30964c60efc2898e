"""Which model, in which precision, on which device."""

from __future__ import annotations

from typing import Literal

from rlsf.config import Section


class ModelConfig(Section):
    """The policy to start from: any causal language model that transformers loads."""

    path: str | None = None
    """A local folder or hub id."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto``: float32 on CPU, else the precision the weights were saved in."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    trust_remote_code: bool = False
    """Run model code from the model's own repository; off unless you asked for it."""
