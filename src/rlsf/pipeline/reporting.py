"""The report stage: what the run folder holds, gathered for the page and the model card."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq

from rlsf.answers.equivalence import Grader
from rlsf.confidence import get_signal
from rlsf.errors import InputError
from rlsf.evaluation import table_to_outcomes
from rlsf.files import read_json, write_text
from rlsf.introspection.attempts import WithoutMajority
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import OUTCOMES, RETRY, TURNS, require_current
from rlsf.pipeline.manifest import read_manifest
from rlsf.pipeline.ranking import PAIRS, confidences, pieces_of
from rlsf.pipeline.sampling import read_traces
from rlsf.pipeline.spent import read_spent
from rlsf.prompts.prompt import Prompt
from rlsf.report import (
    MODE_NAMES,
    BranchSet,
    BranchView,
    CheckpointChoice,
    DialogueCounts,
    QuestionView,
    RankingCounts,
    ReportInputs,
    RolloutCounts,
    choose_questions,
    model_card,
    render_report,
)
from rlsf.rewards.reward_model import EVALUATION
from rlsf.traces import Trace

QUESTIONS_SHOWN, PROMPTS_SHOWN = 12, 4


def report_stage(run: Run) -> Path:
    """Write ``report.html``, and the model card beside the policy where there is one.

    Raises ``InputError`` where the figures are those of an earlier policy.
    """
    require_current(run)
    with Grader() as grader:
        inputs = gather(run, grader)
    write_text(run.folder.report_file, render_report(inputs))
    if run.folder.policy.exists():
        write_text(run.folder.policy / "README.md", model_card(inputs))
    return run.folder.report_file


def gather(run: Run, grader: Grader) -> ReportInputs:
    """Everything the report shows."""
    rounds = range(1, run.recipe.rounds + 1)
    outcomes = greedy_outcomes(run)
    return ReportInputs(
        name=run.folder.path.name,
        recipe=run.recipe,
        environment=read_json(run.folder.environment_file),
        summary=read_json(run.folder.summary_file) if run.folder.summary_file.exists() else None,
        rounds=tuple(counts for round_ in rounds if (counts := ranking_counts(run, round_)) is not None),
        rollouts=rollout_counts(run),
        dialogues=tuple(counts for round_ in rounds if (counts := dialogue_counts(run, round_)) is not None),
        turns=turn_figures(run),
        checkpoints=tuple(choice for round_ in rounds if (choice := checkpoint_choice(run, round_)) is not None),
        events=tuple(run.metrics.events()),
        questions=(*_held_out(run, outcomes, grader), *_training(run)),
        outcomes=outcomes,
        learned_questions=run.learned_questions if run.folder.policy.exists() else 0,
        reward_model=reward_model_figures(run),
        retry=retry_figures(run),
        spent=asdict(read_spent(run.folder)),
    )


def reward_model_figures(run: Run) -> dict[str, Any] | None:
    """What was measured of the run's reward model, None where there is none or no pair was held out."""
    path = run.folder.reward_model / EVALUATION
    return read_json(path) if run.recipe.reward_model is not None and path.is_file() else None


def retry_figures(run: Run) -> dict[str, Any] | None:
    """What loops around the policy are worth, None where there are none or nothing was measured."""
    path = run.folder.evaluation("before") / RETRY
    return read_json(path) if path.is_file() else None


def ranking_counts(run: Run, round_: int) -> RankingCounts | None:
    """How a round of traces became pairs, None before it did."""
    manifest = read_manifest(run.folder.preferences(round_))
    if manifest is None:
        return None
    counts = manifest.counts
    return RankingCounts(
        prompts=counts["prompts"],
        traces=counts["traces"],
        without_answer=counts["without_answer"],
        truncated=counts["truncated"],
        pairs=counts["pairs"],
        prompts_with_pairs=counts["prompts"] - counts["prompts_without_pairs"],
    )


def dialogue_counts(run: Run, round_: int) -> DialogueCounts | None:
    """How a round of dialogues became examples, None before it did, or where there are none."""
    manifest = read_manifest(run.folder.examples(round_))
    if manifest is None:
        return None
    names = ("prompts", "first_successes", "longer", "improved", "examples")
    without = {reason: manifest.counts[reason] for reason in get_args(WithoutMajority) if reason in manifest.counts}
    return DialogueCounts(**{name: manifest.counts[name] for name in names}, without_majority=without or None)


def turn_figures(run: Run) -> dict[str, dict[str, Any]]:
    """What the turns of dialogues are worth in each phase; empty where none were asked for."""
    paths = {phase: run.folder.evaluation(phase) / TURNS for phase in ("before", "after")}
    return {phase: read_json(path) for phase, path in paths.items() if path.exists()}


def checkpoint_choice(run: Run, round_: int) -> CheckpointChoice | None:
    """Which step of a round was kept, and why; None before it was trained."""
    manifest = read_manifest(run.folder.checkpoints(round_))
    if manifest is None:
        return None
    counts = manifest.counts
    return CheckpointChoice(
        steps=counts["steps"],
        best_step=counts["best_step"],
        reason=counts["reason"],
        learning_rate=counts.get("learning_rate"),
        # Both alarms and patience say so in the reason, and the last step is the one at which they did.
        stopped=counts["steps"] if "stopped" in counts["reason"] else None,
    )


def rollout_counts(run: Run) -> RolloutCounts | None:
    """What online training learned from, None before it was done or where it was not online."""
    online, manifest = run.recipe.online, read_manifest(run.folder.checkpoints(1))
    if online is None or manifest is None:
        return None
    steps = manifest.counts["steps"]
    asked = math.ceil(steps / online.num_iterations) * online.prompts_per_step
    return RolloutCounts(
        prompts=min(asked, manifest.counts["prompts"]), completions=asked * online.num_generations, steps=steps
    )


def greedy_outcomes(run: Run) -> dict[str, tuple[bool | None, bool | None]]:
    """Whether greedy decoding, or the first mode measured without it, was right on each question, before and after."""
    mode = next(mode for mode in MODE_NAMES if mode in run.recipe.evaluation.modes)
    found: dict[str, dict[str, bool]] = {}
    for phase in ("before", "after"):
        path = run.folder.evaluation(phase) / OUTCOMES
        if path.exists():
            for outcome in table_to_outcomes(pq.read_table(path)):
                if outcome.mode == mode:
                    found.setdefault(outcome.prompt_id, {})[phase] = outcome.correct
    return {prompt_id: (right.get("before"), right.get("after")) for prompt_id, right in found.items()}


def _held_out(
    run: Run, outcomes: Mapping[str, tuple[bool | None, bool | None]], grader: Grader
) -> Sequence[QuestionView]:
    chosen = choose_questions(outcomes, QUESTIONS_SHOWN)
    questions = {question.id: question for question in _still_there(run, chosen)}
    sets: dict[str, list[BranchSet]] = {prompt_id: [] for prompt_id in chosen}
    for phase in ("before", "after"):
        for group in read_traces(run.folder.evaluation(phase) / "traces"):
            question = questions.get(group[0].prompt_id)
            if question is not None:
                sets[question.id].append(
                    BranchSet(phase, _branches(run, group, question, grader, Counter(), Counter()))
                )
    return [_view(questions[prompt_id], sets[prompt_id], "Held-out questions") for prompt_id in chosen]


def _still_there(run: Run, chosen: Collection[str]) -> list[Prompt]:
    """The evaluation questions with these ids; raises ``InputError`` where their file has lost one."""
    questions = [question for question in run.questions if question.id in chosen]
    lost = sorted(set(chosen) - {question.id for question in questions})
    if lost:
        raise InputError(
            f"question {lost[0]!r} was measured but is no longer in the evaluation data: bring back the data of this"
            " run, or start another run"
        )
    return questions


def _training(run: Run) -> Sequence[QuestionView]:
    path = run.folder.preferences(1) / PAIRS
    if not path.exists():
        return []
    pairs = pq.read_table(path, columns=["prompt_id", "chosen_trace_id", "rejected_trace_id"]).to_pydict()
    chosen, rejected = Counter(pairs["chosen_trace_id"]), Counter(pairs["rejected_trace_id"])
    shown = choose_questions(dict.fromkeys(pairs["prompt_id"], (None, None)), PROMPTS_SHOWN)
    prompts = {prompt.id: prompt for prompt in run.prompts if prompt.id in set(shown)}
    return [
        _view(
            prompts[group[0].prompt_id],
            [BranchSet("round 1", _branches(run, group, prompts[group[0].prompt_id], None, chosen, rejected))],
            "Questions it learned from",
        )
        for group in read_traces(run.folder.traces(1))
        if group[0].prompt_id in prompts
    ]


def _view(prompt: Prompt, sets: Sequence[BranchSet], group: str) -> QuestionView:
    return QuestionView(prompt.id, prompt.question, tuple(sets), prompt.choices, prompt.gold, group)


def _branches(
    run: Run,
    traces: Sequence[Trace],
    prompt: Prompt,
    grader: Grader | None,
    chosen: Counter[str],
    rejected: Counter[str],
) -> tuple[BranchView, ...]:
    measured = confidences(traces, get_signal(run.recipe.signal), run.tokenizer)
    return tuple(
        BranchView(
            trace=trace,
            pieces=tuple(pieces_of(trace, run.tokenizer)),
            confidence=confidence,
            correct=_correct(trace, prompt, grader),
            chosen=chosen[trace.trace_id],
            rejected=rejected[trace.trace_id],
        )
        for trace, confidence in zip(traces, measured, strict=True)
    )


def _correct(trace: Trace, prompt: Prompt, grader: Grader | None) -> bool | None:
    if grader is None or prompt.gold is None:
        return None
    return trace.answer is not None and bool(grader(trace.answer.text, prompt.gold, prompt.choices))
