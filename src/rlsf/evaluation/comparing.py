"""Methods against each other: the content of ``comparison.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlsf.evaluation.comparison_schema import Asked, Comparison, Kind
from rlsf.evaluation.config import EvaluationConfig, Mode
from rlsf.evaluation.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What a run had spent at one moment, and its accuracy then. Tokens are those of learning, as in ``Spent``."""

    step: int
    generated_tokens: int
    training_tokens: int
    seconds: float
    accuracy: float


@dataclass(frozen=True, slots=True, eq=False)
class MethodOutcomes:
    """One method: its outcomes by seed, and what its runs spent.

    ``outcomes`` may hold other decoding modes too; those of ``mode`` are measured. ``reference``: outcomes of the model
    as given under the same ``mode``, by seed, None where it was not measured so. ``entropy``: mean entropy of the tokens
    in nats, by seed. ``spent``: tokens, steps and seconds of each run by name. ``curve``: points in the order of the
    run; a seed without points gets its end. ``failed``: the reason of every seed that has no outcomes.
    """

    recipe: str
    title: str
    kind: Kind
    needs_labels: bool
    mode: Mode
    outcomes: Mapping[int, Sequence[Outcome]]
    reference: Mapping[int, Sequence[Outcome]] | None = None
    entropy: Mapping[int, float] | None = None
    spent: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    curve: Mapping[int, Sequence[CurvePoint]] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)


def compare_methods(
    methods: Sequence[MethodOutcomes], config: EvaluationConfig, seed: int, asked: Asked | None = None
) -> Comparison:
    """The figures of every method and the differences between all pairs; the first method is the model as given."""
    raise NotImplementedError
