"""What `rlsf best-of-n` chooses from, and how; what of a recipe it sets on its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from rlsf.config import Section
from rlsf.errors import InputError, near_names
from rlsf.pipeline.scoring_config import CompletionColumns
from rlsf.recipes.resolve import flatten, read_config
from rlsf.select.selectors import DEFAULT_SELECTORS, Selector, parse_selector

#: As in arXiv 2502.18581: 64 samples at temperature .6 and top-p .9, chosen by self-certainty.
DEFAULTS: Mapping[str, Any] = {
    "sampling.strategy": "sampling",
    "sampling.branches": 64,
    "sampling.temperature": 0.6,
    "sampling.top_p": 0.9,
    "signal": "self_certainty",
}
#: What of a recipe has a meaning where traces are given.
_OF_GIVEN_TRACES = (
    "model",
    "answer",
    "signal",
    "render.chat_arguments",
    "evaluation_data",
    "evaluation.bootstrap",
    "seed",
)


class SampleColumns(CompletionColumns):
    """Which column holds what; a dot enters nested fields (``body.prompt``), ``[0]`` an element of a list."""

    confidence: str | None = None
    """How sure each completion is, any number that grows with sureness: it stands in the place of a signal, and no
    model is needed."""
    logprobs: str | None = None
    """The log-probability of each token of a completion, as engines return them: the confidence is then the exponential
    of their mean, as that of the signal mean_logprob, and no model is needed."""
    gold: str | None = None
    """The gold answer of the question; by default ``gold`` where present and there is no --data."""

    @property
    def of_sureness(self) -> str | None:
        """The column that says how sure each completion is; raises ``InputError`` where there are two."""
        if self.confidence and self.logprobs:
            raise InputError(
                f"--columns.confidence {self.confidence} and --columns.logprobs {self.logprobs} both say how sure each"
                " completion is: say one of the two"
            )
        return self.confidence or self.logprobs


class BestOfNConfig(Section):
    """What is chosen from, and how."""

    traces: str | None = None
    """Traces that exist already; none: they are sampled."""
    first: int | None = Field(default=None, ge=1)
    """Of traces that exist, the first so many of each question."""
    columns: SampleColumns = SampleColumns()
    selectors: tuple[str, ...] | None = None
    """How one of the traces is chosen; by default all selectors that the confidences allow."""
    subsets: int = Field(default=32, ge=1)
    """Random subsets of each question's traces over which accuracy is averaged, for each N."""

    @property
    def chosen(self) -> list[Selector]:
        """The selectors, each of them once; raises ``InputError`` for an unknown one."""
        return list(dict.fromkeys(parse_selector(name) for name in self.selectors or DEFAULT_SELECTORS))

    @property
    def asks_no_sureness(self) -> bool:
        """Whether no selector looks at how sure a trace is."""
        return all(selector.kind == "majority" for selector in self.chosen)


def own_defaults(config: Path | None) -> tuple[str, ...]:
    """What the command sets under what the user says, as dotted overrides; keys that ``config`` sets are left out."""
    said = dict(flatten(read_config(config))) if config else {}
    return tuple(f"{key}={value}" for key, value in DEFAULTS.items() if key not in said)


def require_meaning(overrides: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for keys of a recipe that mean nothing where traces are given."""
    for key, _ in flatten(overrides):
        if not any(key == known or key.startswith(f"{known}.") for known in _OF_GIVEN_TRACES):
            known = (
                *_OF_GIVEN_TRACES,
                "selectors",
                "subsets",
                *(f"columns.{name}" for name in SampleColumns.model_fields),
            )
            raise InputError(
                f"--{key} means nothing where --traces are given{near_names(key, known)}: of a recipe's keys it takes"
                f" those of {', '.join(_OF_GIVEN_TRACES)}"
            )
