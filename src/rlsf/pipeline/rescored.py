"""Whole distributions where an engine records likeliest tokens alone: one forward pass of the same weights here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from rlsf.confidence import get_signal
from rlsf.models import ModelConfig, check_vocabulary, load_model
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import Engine, SamplingRequest
from rlsf.sampling.pool import engine_for
from rlsf.tokenstats.statistics import UNSERVED
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rlsf.scoring import Scorer


def signals_of(recipe: Recipe) -> list[str]:
    """Every confidence signal that the recipe names."""
    named = [recipe.signal]
    if recipe.online is not None:
        by_confidence = recipe.online.rewards.answer_confidence
        named += [recipe.online.guard.signal or recipe.signal, by_confidence.signal if by_confidence else recipe.signal]
    return named


def is_rescored(model: ModelConfig, recipe: Recipe) -> bool:
    """Whether a signal of the recipe reads statistics that what samples from ``model`` does not record.

    Servers are left out: their weights may lie elsewhere (see ``require_served_signal``).
    """
    if model.engine != "vllm":
        return False
    return any(set(get_signal(name).statistics) & set(UNSERVED) for name in signals_of(recipe))


#: The scorer of each engine that has been scored for.
_scorers: WeakKeyDictionary[Engine, Scorer] = WeakKeyDictionary()


class Rescored:
    """An engine whose traces get all their statistics from transformers' model of ``config``, loaded on first use.

    It is kept as long as the engine is. The log-probabilities that the engine recorded give way to those of the pass.
    """

    def __init__(self, engine: Engine, config: ModelConfig) -> None:
        self._engine, self._config = engine, config

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that the model's token ids belong to."""
        return self._engine.tokenizer

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and completion together, None where unbounded."""
        return self._engine.context_length

    def sample(self, requests: Sequence[SamplingRequest], config: SamplingConfig) -> Iterator[list[Trace]]:
        """The traces of the engine, scored; raises as it and as ``Scorer.score`` do."""
        groups = self._engine.sample(requests, config)
        return self._score(groups, len(requests), config.branches)

    def _score(self, groups: Iterator[list[Trace]], count: int, branches: int) -> Iterator[list[Trace]]:
        if not count:
            return
        scored = self._scorer().score(trace for group in groups for trace in group)
        for _ in range(count):
            yield list(islice(scored, branches))

    def _scorer(self) -> Scorer:
        from rlsf.scoring import Scorer

        if self._engine not in _scorers:
            model = load_model(self._config.by_transformers)
            check_vocabulary(model, self.tokenizer)
            _scorers[self._engine] = Scorer(model, self.tokenizer)
        return _scorers[self._engine]


def measuring_engine_for(config: ModelConfig, *, rescored: bool) -> Engine:
    """The engine of a model, whose traces have all statistics where ``rescored`` asks for them."""
    engine = engine_for(config)
    return Rescored(engine, config) if rescored else engine
