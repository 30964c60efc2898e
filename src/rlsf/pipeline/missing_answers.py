"""What to say where a model never answers in the format that is looked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlsf.recipes.recipe import Recipe

if TYPE_CHECKING:
    from rlsf.pipeline.tried import Tried


def no_answer(recipe: Recipe, look: str, *, cut: int, traces: int, limit: tuple[str, int]) -> str:
    """What is missing, and what to do about it: ``limit`` at which ``cut`` of the ``traces`` were cut is to be raised
    where they are at least half; otherwise ``look`` says how to see the form in which they end."""
    missing = f"no trace has an answer in the format answer.format={recipe.answer.format}"
    if 2 * cut >= traces:
        key, value = limit
        return f"{missing}, and {cut} of {traces} were cut at {key}={value}: raise it"
    remedy = f"{missing}: {look}, then choose the format that they end with, or ask for this one in render.system"
    rewards = recipe.online and recipe.online.rewards
    if rewards and (rewards.brier_calibration or rewards.self_verification):
        remedy += ", or teach the form with online.warm_up.steps"
    return remedy


def warnings_of_answers(recipe: Recipe, tried: Sequence[Tried], *, shown: bool) -> list[str]:
    """The same of traces that were tried for a preview, whose first ones are ``shown``, and of those that were cut
    though some answer; completions of online training have words of their own for that."""
    return list(dict.fromkeys(filter(None, (_warning(recipe, one, shown) for one in tried))))


def _warning(recipe: Recipe, tried: Tried, shown: bool) -> str:
    key, value = tried.limit
    cut, traces, online = tried.truncated, len(tried.traces), recipe.online
    if any(trace.answer is not None for trace in tried.traces):
        if 2 * cut < traces or key.startswith("online"):
            return ""
        return f"{cut} of {traces} traces are cut at {key}={value} before they end: raise it"
    if online is not None and online.warm_up.steps:
        return (
            f"no trace has an answer in the format answer.format={recipe.answer.format}: online.warm_up.steps="
            f"{online.warm_up.steps} is there to teach it, which is not tried here"
        )
    look = "look at the traces above" if shown else "look at some with --examples 3"
    return no_answer(recipe, look, cut=cut, traces=traces, limit=tried.limit)
