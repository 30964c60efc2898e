"""Everything a report shows, gathered before anything is drawn: the report itself reads no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlsf.recipes.recipe import Recipe
from rlsf.traces import Trace


@dataclass(frozen=True, slots=True, eq=False)
class BranchView:
    """One trace as the trace browser shows it.

    ``pieces`` holds the text of each token, in order. ``confidence`` is the recipe's signal in [0, 1], None
    where the trace has no answer to be sure of. ``correct`` is None where no reference answer exists.
    ``chosen`` and ``rejected`` count the preference pairs in which the trace stands on either side.
    """

    trace: Trace
    pieces: tuple[str, ...]
    confidence: float | None = None
    correct: bool | None = None
    chosen: int = 0
    rejected: int = 0

    def __post_init__(self) -> None:
        if len(self.pieces) != len(self.trace.token_ids):
            raise ValueError(
                f"trace {self.trace.trace_id}: {len(self.pieces)} text pieces for {len(self.trace.token_ids)} tokens"
            )


@dataclass(frozen=True, slots=True, eq=False)
class BranchSet:
    """The traces that one policy sampled for one question; ``label`` is ``"before"``, ``"after"``, ``"round 1"``."""

    label: str
    branches: tuple[BranchView, ...]


@dataclass(frozen=True, slots=True, eq=False)
class QuestionView:
    """One question with its traces, side by side. ``group`` is the heading it is listed under."""

    prompt_id: str
    question: str
    sets: tuple[BranchSet, ...]
    choices: tuple[str, ...] = ()
    gold: str | None = None
    group: str = "Held-out questions"


@dataclass(frozen=True, slots=True)
class RankingCounts:
    """How one round of traces became preference pairs."""

    prompts: int
    traces: int
    without_answer: int
    truncated: int
    pairs: int
    prompts_with_pairs: int | None = None


@dataclass(frozen=True, slots=True)
class DialogueCounts:
    """How one round of dialogues became examples.

    Of ``prompts``, ``first_successes`` ended with their first attempt; of the ``longer`` ones ``improved`` earned more
    in their last turn than in their first. Where the majority is learned, ``without_majority`` counts the turns that
    have none to learn from, by the reason.
    """

    prompts: int
    first_successes: int
    longer: int
    improved: int
    examples: int
    without_majority: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class CheckpointChoice:
    """What one round of training ended with: ``best_step`` is the one whose policy was kept, for ``reason``.

    ``learning_rate`` is the peak that was used, None where that was not recorded; ``stopped`` the step at which
    training was stopped before its end, None where it was not.
    """

    steps: int
    best_step: int
    reason: str
    learning_rate: float | None = None
    stopped: int | None = None


@dataclass(frozen=True, slots=True)
class RolloutCounts:
    """What online training learned from: ``completions`` in all, of ``prompts`` prompts, in ``steps`` steps."""

    prompts: int
    completions: int
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class ReportInputs:
    """One run, as the report and the model card tell it.

    ``summary`` is ``evaluation/summary.json`` (its ``after`` may be missing or None), ``environment`` is
    ``environment.json``, ``events`` are the lines of ``metrics.jsonl``; ``rounds`` and ``checkpoints`` have one
    entry per self-training round, ``rollouts`` is there where training was online, ``dialogues`` (one a round) and
    ``turns`` (``turns.json`` of each phase) where it was from dialogues. ``outcomes`` gives, for every
    evaluated question, whether the greedy answer was right before and after (None: not graded, or not measured).
    ``learned_questions`` counts the evaluation questions that were also among the prompts learned from.
    ``reward_model`` is what was measured of a reward model that the run trained (``reward_model/evaluation.json``),
    ``retry`` of loops around a policy that was not (``evaluation/before/retry.json``). ``spent`` is what learning took,
    in tokens and seconds.
    """

    name: str
    recipe: Recipe
    environment: Mapping[str, Any]
    summary: Mapping[str, Any] | None = None
    rounds: tuple[RankingCounts, ...] = ()
    rollouts: RolloutCounts | None = None
    dialogues: tuple[DialogueCounts, ...] = ()
    turns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    checkpoints: tuple[CheckpointChoice, ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    questions: tuple[QuestionView, ...] = ()
    outcomes: Mapping[str, tuple[bool | None, bool | None]] = field(default_factory=dict)
    learned_questions: int = 0
    reward_model: Mapping[str, Any] | None = None
    retry: Mapping[str, Any] | None = None
    spent: Mapping[str, float] | None = None
