"""The evaluation stage: the same questions before and after, and what that says about accuracy and calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.answers.equivalence import Grader
from rlsf.confidence import get_signal
from rlsf.errors import InputError
from rlsf.evaluation import (
    OUTCOME_SCHEMA,
    judge_question,
    judge_turns,
    outcomes_to_table,
    summarise,
    summarise_turns,
    table_to_outcomes,
)
from rlsf.evaluation.config import OF_SEVERAL
from rlsf.evaluation.outcomes import Outcome
from rlsf.files import ListDigest, write_json
from rlsf.models import model_fingerprint
from rlsf.models.config import ModelConfig
from rlsf.pipeline.calibrated import add_calibrated
from rlsf.pipeline.context import Run
from rlsf.pipeline.dialogues import Dialogues, evaluation_dialogues
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import Manifest, finished, read_manifest
from rlsf.pipeline.metrics import spends
from rlsf.pipeline.ranking import confidences
from rlsf.pipeline.retrying import Retries, evaluation_retries, retry_inputs
from rlsf.pipeline.sampling import read_traces, require_answers, sample_stage
from rlsf.pipeline.served import require_served_signal
from rlsf.pipeline.table_file import writing_rows
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.randomness import derived_seed

OUTCOMES = "outcomes.parquet"
TURNS = "turns.json"
RETRY = "retry.json"


@spends("measuring")
def evaluate_stage(run: Run, phase: str, model: ModelConfig) -> Manifest:
    """Sample the evaluation questions with ``model``, grade every decoding mode, write one row a question and mode."""
    folder = run.folder.evaluation(phase)
    recipe, questions = run.recipe, run.questions
    require_served_signal(model, recipe.signal)
    seed = derived_seed(recipe.seed, "evaluate")
    sampling = evaluation_sampling(recipe)
    title = f"evaluate {phase}"
    sampled = sample_stage(run, title, model, questions, folder / "traces", seed, sampling)
    if phase == "before":  # a policy that training has silenced is a finding: it is measured as it is
        require_answers(run, title, sampled)
    dialogues = evaluation_dialogues(run, phase, model) if "turns" in recipe.evaluation.modes else None
    retries = "retry" in recipe.evaluation.modes
    inputs = {
        "traces": sampled.digest,
        "gold": gold_digest(questions),
        "signal": recipe.signal,
        "evaluation": recipe.evaluation.model_dump(mode="json"),
        **({"turns": dialogues.digest} if dialogues else {}),
        **({"retry": retry_inputs(run)} if retries else {}),
    }
    done = finished(folder, "evaluate", inputs)
    if done is not None:
        return done
    tried = evaluation_retries(run, phase, model) if retries else None
    with writing_rows(folder / OUTCOMES, OUTCOME_SCHEMA) as write:
        outcomes = _write_outcomes(run, phase, dialogues, tried, write)
    manifest = Manifest("evaluate", inputs, {"questions": len(questions), "outcomes": outcomes})
    manifest.write(folder)
    return manifest


def evaluation_sampling(recipe: Recipe) -> SamplingConfig:
    """How questions are asked, whatever the recipe learns from.

    Greedy decoding is the first CoT-decoding branch, so one sampling serves every decoding mode; where no mode chooses
    among several traces, that branch is all there is.
    """
    branches = recipe.sampling.branches if OF_SEVERAL.intersection(recipe.evaluation.modes) else 1
    asked = {"strategy": "cot_decoding", "continuation": "greedy", "branches": branches}
    return recipe.sampling.model_copy(update=asked)


def read_outcomes(run: RunFolder, phase: str) -> list[Outcome]:
    """What a run measured of a policy, in all decoding modes."""
    return table_to_outcomes(pq.read_table(run.evaluation(phase) / OUTCOMES))


def require_current(run: Run) -> None:
    """Raise ``InputError`` where what was measured is of another policy, or by another signal, than the run has now."""
    for phase in ("before", "after"):
        graded = read_manifest(run.folder.evaluation(phase))
        if graded is not None and graded.inputs["signal"] != run.recipe.signal:
            signals = f"with signal {graded.inputs['signal']}, the run has {run.recipe.signal}"
            raise InputError(_measure_again(run, signals))
    sampled = read_manifest(run.folder.evaluation("after") / "traces")
    if sampled is not None and run.folder.policy.exists():
        policy = model_fingerprint(run.trained_config(run.recipe.rounds))
        if sampled.inputs["model"]["fingerprint"] != policy:
            raise InputError(_measure_again(run, f"of another policy than {run.folder.policy}"))


def _measure_again(run: Run, what: str) -> str:
    folder = run.folder.path
    return f"{folder / 'evaluation'} was measured {what}: delete it, then say `rlsf eval {folder}`"


def gold_digest(questions: Iterable[Prompt]) -> str:
    """What tells one set of gold answers from another."""
    gold = ListDigest()
    for question in questions:
        gold.add([question.id, question.gold])
    return gold.hexdigest()


def _write_outcomes(
    run: Run,
    phase: str,
    dialogues: Dialogues | None,
    retries: Retries | None,
    write: Callable[[pa.Table], None],
) -> int:
    """Write the outcomes of one question after the other, in every mode, and count them.

    Figures of dialogues and loops, where there are any, go to files.
    """
    folder, signal = run.folder.evaluation(phase), get_signal(run.recipe.signal)
    count, verdicts = 0, []
    with Grader() as grader, run.progress.stage(f"grade {phase}", len(run.questions)) as advance:
        for question, traces in zip(run.questions, read_traces(folder / "traces"), strict=True):
            measured = confidences(traces, signal, run.tokenizer)
            turns = dialogues.of(run, question) if dialogues else None
            retry = retries.of(question) if retries else None
            outcomes = judge_question(question, traces, measured, run.recipe.evaluation, grader, turns, retry)
            write(outcomes_to_table(outcomes))
            count += len(outcomes)
            if turns is not None:
                verdicts.append(judge_turns(question, turns, grader))
            advance(1)
        if retries is not None:
            write_json(folder / RETRY, retries.figures(run, grader))
    if verdicts:
        write_json(folder / TURNS, summarise_turns(verdicts))
    return count


def summary_stage(run: Run) -> dict[str, Any]:
    """Write ``evaluation/summary.json`` from the outcomes before and, where there are any, after."""
    before = read_outcomes(run.folder, "before")
    after = read_outcomes(run.folder, "after") if (run.folder.evaluation("after") / OUTCOMES).exists() else None
    summary = summarise(before, after, run.recipe.evaluation, run.recipe.signal, run.recipe.seed)
    add_calibrated(run, summary, {"before": before, **({} if after is None else {"after": after})})
    write_json(run.folder.summary_file, summary)
    return summary
