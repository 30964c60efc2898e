"""Reinforcement learning from self-feedback: post-train language models from their own confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlsf.scoring import Scorer

__all__ = ["Scorer", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``rlsf.Scorer``, imported on first use: it needs torch."""
    if name != "Scorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rlsf.scoring import Scorer

    return Scorer
