"""What a server cannot give is met before any work: whole distributions, and a policy that was just trained."""

from __future__ import annotations

from pathlib import Path

from rlsf.confidence import SIGNALS, get_signal
from rlsf.errors import InputError
from rlsf.models.config import ModelConfig
from rlsf.recipes.recipe import Recipe
from rlsf.tokenstats.statistics import UNSERVED


def require_served_signal(model: ModelConfig, signal: str) -> None:
    """Raise ``InputError`` where ``model`` is on a server and ``signal`` needs more than its likeliest tokens."""
    needed = [name for name in get_signal(signal).statistics if name in UNSERVED]
    if model.server is None or not needed:
        return
    possible = [name for name, other in SIGNALS.items() if not set(other.statistics) & set(UNSERVED)]
    raise InputError(
        f"signal={signal} needs {' and '.join(needed)} of whole distributions, and a server returns the likeliest"
        f" tokens alone: use {', '.join(possible[:-1])} or {possible[-1]}, or leave model.server out; with the model"
        " here, `rlsf score` measures all of them on the traces of a server"
    )


def require_servable(recipe: Recipe, *, trains: bool) -> None:
    """Raise ``InputError`` for what a recipe asks of a server that it cannot do. ``trains``: whether training follows.

    A server keeps the model that it was started with, so nothing may be sampled from a policy that was trained here.
    """
    if recipe.model.server is None:
        return
    require_served_signal(recipe.model, recipe.signal)
    if recipe.judge is not None:
        raise InputError(
            "judge asks for probabilities that a server does not return: set judge to null, or leave model.server out"
        )
    if not trains:
        return
    stale = next((what for what, asked in _of_a_trained_policy(recipe) if asked), None)
    if stale is not None:
        raise InputError(
            f"{stale}, and the server keeps the model that it was started with: leave model.server out, or sample from"
            " it alone with `rlsf sample`, then `rlsf rank` and `rlsf train`"
        )


def require_same_sampler(model: ModelConfig, policy: Path) -> None:
    """Raise ``InputError`` where a server would be compared with a policy that was trained from its model."""
    if model.server is not None and policy.exists():
        raise InputError(
            f"model.server: the starting model would be measured on the server, and the trained policy here: measure"
            f" both alike with `rlsf eval --model FOLDER --data FILE`, once with --model {policy}"
        )


def _of_a_trained_policy(recipe: Recipe) -> tuple[tuple[str, bool], ...]:
    return (
        ("online training samples from the policy that it trains", recipe.online is not None),
        ("introspection samples its dialogues from the policy that it trains", recipe.introspection is not None),
        (f"{recipe.rounds} rounds sample from the policy of the round before", recipe.rounds > 1),
        ("the trained policy is measured on evaluation_data", recipe.evaluation_data is not None),
    )
