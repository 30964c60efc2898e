"""What a comparison is given: the outcomes of each method by seed, on the same questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rlsf.errors import InputError
from rlsf.evaluation.comparison_schema import Kind
from rlsf.evaluation.config import EvaluationConfig, Mode
from rlsf.evaluation.outcomes import Outcome
from rlsf.evaluation.summary import by_mode


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
    as given under the same ``mode``, by seed, None where it was not measured so. ``entropy``: mean entropy of the
    tokens in nats, by seed. ``spent``: tokens, steps and seconds of each run by name. ``curve``: points in the order of
    the run; a seed without points gets its end. ``failed``: the reason of every seed that has no outcomes.
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


def reference_name(recipe: str) -> str:
    """What the model as given, decoded as ``recipe`` is, is called among the runs."""
    return f"{recipe} (model as given)"


def measured_runs(methods: Sequence[MethodOutcomes]) -> Iterator[tuple[tuple[str, int], list[Outcome]]]:
    """The outcomes of each run (name, seed) in its method's mode, by question; those of references under their name."""
    for method in methods:
        for name, outcomes in ((method.recipe, method.outcomes), (reference_name(method.recipe), method.reference)):
            for seed, given in sorted((outcomes or {}).items()):
                try:
                    yield (name, seed), by_mode(given, EvaluationConfig(modes=(method.mode,)))[method.mode]
                except InputError as error:
                    raise InputError(f"{name}, seed {seed}: {error}") from error


def same_questions(runs: Mapping[tuple[str, int], Sequence[Outcome]]) -> int:
    """How many questions there are. Raises ``InputError`` for no run, and where two differ in their questions."""
    if not runs:
        raise InputError("no run was measured: see why they failed, mend that and resume the comparison")
    (first, outcomes), *others = runs.items()
    wanted = {outcome.prompt_id for outcome in outcomes}
    for run, given in others:
        differing = wanted ^ {outcome.prompt_id for outcome in given}
        if differing:
            raise InputError(
                f"{first[0]}, seed {first[1]}, and {run[0]}, seed {run[1]}, were not measured on the same questions"
                f" ({min(differing)!r} is in one only, {len(differing)} in all): measure all runs on the same data"
            )
    return len(wanted)
