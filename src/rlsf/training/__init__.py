"""From preferences or rewards to a policy: what the published objectives add to TRL's trainers.

Light at import: torch, transformers and TRL load with the first use of one of the functions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlsf.training.finish import TrainingResult
    from rlsf.training.online import train_online
    from rlsf.training.reference import keep_reference
    from rlsf.training.train import train_preferences
    from rlsf.training.weighted_sft import train_weighted

_PLACES = {
    "TrainingResult": "finish",
    "keep_reference": "reference",
    "train_online": "online",
    "train_preferences": "train",
    "train_weighted": "weighted_sft",
}

__all__ = ["TrainingResult", "keep_reference", "train_online", "train_preferences", "train_weighted"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"rlsf.training.{_PLACES[name]}"), name)
