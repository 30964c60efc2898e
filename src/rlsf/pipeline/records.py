"""The record stage of an acceptance model: attempts of the frozen policy, each with whether it was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.answers.equivalence import Grader
from rlsf.answers.voting import majority
from rlsf.files import atomic_path, digest
from rlsf.models import model_fingerprint
from rlsf.pipeline.attempts import acceptance_config, attempt_sampling, most_of_attempts, try_again
from rlsf.pipeline.budgeting import ACCEPTANCE, allowance
from rlsf.pipeline.context import Run
from rlsf.pipeline.judged import AttemptReader, confidence_scores
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.sampling import read_traces, require_answers, sample_stage
from rlsf.pipeline.spent import of_stages
from rlsf.pipeline.waves import Waves
from rlsf.prompts.prompt import Prompt
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

RECORDS = "records.parquet"
USE = "records"
RECORD_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("round", pa.int32()),
        ("rejected", pa.list_(pa.string())),
        ("text", pa.string()),
        ("answer", pa.string()),
        ("reference", pa.string()),
        ("right", pa.bool_()),
        ("confidence", pa.float64()),
        ("token_ids", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True, slots=True)
class References:
    """The answer that makes an attempt at a prompt right, by the prompt's id; ``stages``: what was sampled for it."""

    answers: dict[str, str | None]
    grader: Grader
    stages: Sequence[str] = ()

    def right(self, prompt: Prompt, trace: Trace) -> bool:
        """Whether the answer is equivalent to the reference; no answer is wrong."""
        reference = self.answers[prompt.id]
        if trace.answer is None or reference is None:
            return False
        return bool(self.grader(trace.answer.text, reference, prompt.choices))


def records_stage(run: Run) -> Manifest:
    """Attempts at every prompt until one is right, at most ``acceptance.rounds``; every one is a record.

    ``right`` compares the answer with the reference, the gold answer or that of most samples; prompts without one are
    left out. ``rejected`` holds the earlier attempts at the question, ``token_ids`` what the acceptance model reads.
    """
    reader_model = acceptance_config(run).model
    with Grader() as grader:
        references, attempts, stages = _attempted(run, grader)
        prompts = [prompt for prompt in run.prompts if prompt.id in attempts]
        inputs = {
            "attempts": stages,
            "references": digest(dict(references.answers)),
            "signal": run.recipe.signal,
            "reader": None if reader_model is None else model_fingerprint(reader_model),
        }
        done = finished(run.folder.records, "records", inputs)
        if done is not None:
            return done
        reader = AttemptReader(run)
        rows = [row for prompt in prompts for row in _rows(run, reader, prompt, attempts[prompt.id], references)]
    with atomic_path(run.folder.records / RECORDS) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=RECORD_SCHEMA), partial, compression="zstd")
    counts = {
        "prompts": len(prompts),
        "without_reference": len(references.answers) - len(prompts),
        "records": len(rows),
        "right": sum(row["right"] for row in rows),
        "first_right": sum(row["right"] for row in rows if row["round"] == 1),
    }
    manifest = Manifest("records", inputs, counts)
    run.metrics.record({"event": "records", **counts})
    manifest.write(run.folder.records)
    return manifest


def _attempted(run: Run, grader: Grader) -> tuple[References, dict[str, list[Trace]], list[str]]:
    """References, the attempts at each prompt that has one, and the digests of all that was sampled.

    Under a cap prompts are taken in their order, as long as the most votes and attempts of the next one fit.
    """
    allowed, most = allowance(run, ACCEPTANCE), most_of_attempts(run.recipe)
    allowed.require("generated_tokens", most, "the attempts at the first prompt")
    waves, folder = Waves(len(run.prompts), allowed.generated_tokens, most), run.folder.traces(1)
    answers: dict[str, str | None] = {}
    attempts: dict[str, list[Trace]] = {}
    stages: list[str] = []
    for number, wave in enumerate(waves, 1):
        taken = run.prompts[waves.taken - wave : waves.taken]
        place = folder if waves.cap is None else folder / f"wave-{number}"
        references = _references(run, grader, taken, place)
        prompts = [prompt for prompt in taken if references.answers[prompt.id] is not None]
        of_wave, sampled = _attempts(run, prompts, references, place, first=number == 1)
        answers, attempts, stages = answers | references.answers, attempts | of_wave, [*stages, *sampled]
        waves.pay(0 if waves.cap is None else of_stages(place).generated_tokens)
    return References(answers, grader), attempts, stages


def _attempts(
    run: Run, prompts: Sequence[Prompt], references: References, folder: Path, *, first: bool
) -> tuple[dict[str, list[Trace]], list[str]]:
    """The attempts at each prompt, and the digests of all samplings; some of the ``first`` must have an answer."""
    if not prompts and not first:
        return {}, [*references.stages]
    model, place = run.policy_config(1), folder / "attempt-1"
    seed = derived_seed(run.recipe.seed, USE, 1)
    sampled = sample_stage(run, f"{USE}, attempt 1", model, prompts, place, seed, attempt_sampling(run, 1))
    if first:
        require_answers(run, USE, sampled)
    asked = {prompt.id: (prompt, trace) for prompt, (trace,) in zip(prompts, read_traces(place), strict=True)}
    attempts, later = try_again(
        run,
        model,
        USE,
        folder,
        asked,
        lambda prompts, traces: [not references.right(*pair) for pair in zip(prompts, traces, strict=True)],
    )
    return attempts, [*references.stages, sampled.digest, *later]


def _rows(
    run: Run, reader: AttemptReader, prompt: Prompt, traces: Sequence[Trace], references: References
) -> list[dict[str, Any]]:
    return [
        {
            "prompt_id": prompt.id,
            "round": round_,
            "rejected": [earlier.text for earlier in traces[: round_ - 1]],
            "text": trace.text,
            "answer": trace.answer_text,
            "reference": references.answers[prompt.id],
            "right": references.right(prompt, trace),
            "confidence": confidence,
            "token_ids": reader(prompt, trace),
        }
        for round_, (trace, confidence) in enumerate(zip(traces, confidence_scores(run, traces), strict=True), 1)
    ]


def _references(run: Run, grader: Grader, prompts: Sequence[Prompt], folder: Path) -> References:
    """Gold answers, or the answers of most samples where the recipe learns without labels."""
    config = acceptance_config(run)
    if config.labels == "gold":
        return References({prompt.id: prompt.gold for prompt in prompts}, grader)
    place, seed = folder / "votes", derived_seed(run.recipe.seed, "votes")
    sampling = attempt_sampling(run, config.votes)
    sampled = sample_stage(run, "votes", run.policy_config(1), prompts, place, seed, sampling)
    require_answers(run, "votes", sampled)
    answers: dict[str, str | None] = {}
    for prompt, traces in zip(prompts, read_traces(place), strict=True):
        said = [trace.answer_text for trace in traces]
        vote = majority(said, same=lambda a, b, p=prompt: grader.equivalent(a, b, p.choices, symmetric=True))
        answers[prompt.id] = None if vote is None else vote.answer
    return References(answers, grader, [sampled.digest])
