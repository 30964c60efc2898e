"""Reinforcement learning from self-feedback: post-train language models from their own confidence."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlsf.pipeline.loop import run
    from rlsf.scoring import Scorer

__all__ = ["Scorer", "__version__", "run"]
__version__ = "0.1.0"

#: Where the names live that need more than the standard library.
_HOMES = {"Scorer": "rlsf.scoring", "run": "rlsf.pipeline.loop"}


def __getattr__(name: str) -> Any:
    """``rlsf.Scorer`` and ``rlsf.run``, imported on first use: they need torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
