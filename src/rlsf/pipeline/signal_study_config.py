"""What a study of signals looks at, besides what the recipe says of sampling."""

from __future__ import annotations

from pydantic import Field

from rlsf.confidence import SIGNALS, get_signal
from rlsf.config import Section
from rlsf.evaluation.trace_kinds import DIRECT_TOKENS
from rlsf.models.config import ModelConfig
from rlsf.pipeline.served import require_served_signal
from rlsf.recipes.recipe import Recipe
from rlsf.tokenstats.statistics import UNSERVED


class SignalStudyConfig(Section):
    """What is studied."""

    signals: tuple[str, ...] | None = None
    """Names of the signals; by default all that the engine records statistics for."""
    direct_tokens: int = Field(default=DIRECT_TOKENS, ge=0)
    """A trace with at most this many tokens before its answer is direct, any other is worked."""

    def chosen(self, model: ModelConfig) -> list[str]:
        """The signals for traces of ``model``; raises ``InputError`` for one unknown or beyond a server."""
        if self.signals is None:
            return [name for name in SIGNALS if model.server is None or not _reads_everything(name)]
        for name in self.signals:
            get_signal(name)
            require_served_signal(model, name)
        return list(dict.fromkeys(self.signals))


def with_statistics_for(recipe: Recipe, signals: list[str]) -> Recipe:
    """``recipe`` with the signal whose statistics serve all of ``signals``.

    Where an engine records no whole distributions, the recipe's signal decides whether they are measured.
    """
    demanding = next((name for name in signals if _reads_everything(name)), signals[0])
    return recipe.model_copy(update={"signal": demanding})


def _reads_everything(signal: str) -> bool:
    """Whether a signal reads statistics of whole distributions."""
    return bool(set(SIGNALS[signal].statistics) & set(UNSERVED))
