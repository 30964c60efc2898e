"""From preference pairs to a policy: what the published objectives add to TRL's DPO trainer.

Light at import: torch, transformers and TRL load with the first use of ``train_preferences``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlsf.training.train import TrainingResult, train_preferences

__all__ = ["TrainingResult", "train_preferences"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rlsf.training import train

    return getattr(train, name)
