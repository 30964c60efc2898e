"""The judging stage: the policy of a round says of its own traces whether they are right."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.files import atomic_path, digest
from rlsf.judging import Case, Judge, JudgeConfig, Judgement
from rlsf.models import model_fingerprint
from rlsf.models.config import ModelConfig
from rlsf.pipeline.context import Run, require_sampled_prompts
from rlsf.pipeline.manifest import Manifest, finished, require
from rlsf.pipeline.sampling import read_shard
from rlsf.pipeline.shards import STAMP, is_made_from, prompts_of_shards, shard_paths
from rlsf.pipeline.table_file import reading_rows
from rlsf.prompts import prompts_digest
from rlsf.prompts.config import RenderConfig
from rlsf.prompts.prompt import Prompt
from rlsf.sampling.pool import local_engine_for
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Below this mean probability of the two words together, a model does not speak of verdicts by itself.
UNSPOKEN = 0.01

#: Why a trace has no confidence where what is asked about it is longer than the model's context.
TOO_LONG = "does not fit the model's context"

#: ``*_true`` and ``*_false``: probabilities of the words, of statements their means. ``statements``: P(True) of each.
#: ``failure``: why there is no confidence, else null.
JUDGEMENT_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("reasoning_true", pa.float64()),
        ("reasoning_false", pa.float64()),
        ("answer_true", pa.float64()),
        ("answer_false", pa.float64()),
        ("statements", pa.list_(pa.float64())),
        ("attempts", pa.int32()),
        ("reasoning", pa.float64()),
        ("answer", pa.float64()),
        ("raw", pa.float64()),
        ("confidence", pa.float64()),
        ("failure", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """All that a worker needs to judge one shard of traces."""

    model: ModelConfig
    judge: JudgeConfig
    render: RenderConfig
    seed: int
    prompts: tuple[Prompt, ...]
    traces: str
    path: str
    stamp: str


def judge_stage(run: Run, round_: int) -> Manifest:
    """P(True) of every trace of a round by the policy that sampled it, one shard for each shard of traces."""
    config = run.recipe.judge
    assert config is not None
    sampled = require(run.folder.traces(round_), "sample", f"sample --output {run.folder.path}")
    model, seed = run.policy_config(round_), derived_seed(run.recipe.seed, "judge", round_)
    inputs = {
        "traces": sampled.digest,
        "model": {"fingerprint": model_fingerprint(model), "dtype": model.dtype},
        "prompts": prompts_digest(run.prompts),
        "render": run.recipe.render.model_dump(mode="json", include={"chat", "chat_arguments"}),
        "judge": config.model_dump(mode="json"),
        "seed": seed,
    }
    folder = run.folder.judgements(round_)
    done = finished(folder, "judge", inputs)
    if done is not None:
        return done
    require_sampled_prompts(sampled, run)
    folder.mkdir(parents=True, exist_ok=True)
    stamp, shards = digest(inputs), shard_paths(run.folder.traces(round_))
    kept = {path for path in shards if is_made_from(folder / path.name, stamp)}
    tasks = (
        JudgeTask(
            model=model,
            judge=config,
            render=run.recipe.render,
            seed=seed,
            prompts=tuple(prompts),
            traces=str(path),
            path=str(folder / path.name),
            stamp=stamp,
        )
        for path, prompts in prompts_of_shards(shards, run.prompts)
        if path not in kept
    )
    title, started = run.title("judge", round_), time.monotonic()
    with run.progress.stage(title, len(shards), len(kept)) as advance:
        for _ in run.pool.map_shards(judge_shard, tasks):
            advance(1)
    counts = {**counts_of_judging(read_judgements(folder)), "shards": len(shards)}
    manifest = Manifest("judge", inputs, counts)
    run.metrics.record({"event": "judging", "round": round_, "seconds": time.monotonic() - started, **counts})
    manifest.write(folder)
    for warning in warnings_of_judging(config, counts):
        run.progress.warn(f"{title}: {warning}")
    return manifest


def warnings_of_judging(config: JudgeConfig, counts: Mapping[str, float | None]) -> Iterator[str]:
    """What the counts of judged traces say against judging them so."""
    if counts["too_long"]:
        yield (
            f"what is asked about {counts['too_long']} of {counts['traces']} traces {TOO_LONG}: they have no"
            " confidence; lower sampling.max_new_tokens, or set judge.template=terse"
        )
    if counts["spoken"] is not None and counts["spoken"] < UNSPOKEN:
        yield (
            f"the words {config.true_word} and {config.false_word} together have a mean probability of"
            f" {counts['spoken']:.2g}: this model does not answer in them, and its P(True) may mean nothing"
        )


def judge_shard(task: JudgeTask) -> int:
    """Judge one shard and write it; runs in a worker process. Returns the number of traces."""
    engine = local_engine_for(task.model)  # pyright: ignore[reportArgumentType]  frozen models are hashable
    groups = list(read_shard(Path(task.traces)))
    judged = judge_traces(
        engine.model, engine.tokenizer, groups, task.prompts, task.judge, render=task.render, seed=task.seed
    )
    rows = [
        row_of(trace, judgement, task.judge)
        for group, judgements in zip(groups, judged, strict=True)
        for trace, judgement in zip(group, judgements, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=JUDGEMENT_SCHEMA.with_metadata({STAMP: task.stamp.encode()}))
    with atomic_path(Path(task.path)) as partial:
        pq.write_table(table, partial, compression="zstd")
    return len(rows)


def judge_traces(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[Sequence[Trace]],
    prompts: Iterable[Prompt],
    config: JudgeConfig,
    *,
    render: RenderConfig,
    seed: int,
) -> Iterator[list[Judgement]]:
    """The judgements of each group of traces, which are of one prompt each."""
    known = {prompt.id: prompt for prompt in prompts}
    judge = Judge(model, tokenizer, config, render=render, seed=seed)
    return judge.judge(_case(known[group[0].prompt_id], group) for group in groups)


def read_judgements(folder: Path) -> Iterator[dict[str, Any]]:
    """The judgements of a round, a row a trace, in the order of the traces."""
    for path in shard_paths(folder):
        for table in reading_rows(path):
            yield from table.to_pylist()


def _case(prompt: Prompt, group: Sequence[Trace]) -> Case:
    return Case(
        prompt_id=prompt.id,
        question=prompt.question,
        choices=prompt.choices,
        reasonings=tuple(trace.text for trace in group),
        answers=tuple(trace.answer_text for trace in group),
    )


def row_of(trace: Trace, judgement: Judgement, config: JudgeConfig) -> dict[str, Any]:
    """A row of ``JUDGEMENT_SCHEMA``."""
    said, answer = judgement.reasoning, judgement.answer
    each = [one.confidence(config.probability) for one in said] if config.reasoning == "statement_wise" else []
    return {
        "prompt_id": trace.prompt_id,
        "index": trace.index,
        "reasoning_true": sum(one.true for one in said) / len(said) if said else None,
        "reasoning_false": sum(one.false for one in said) / len(said) if said else None,
        "answer_true": answer.true if answer else None,
        "answer_false": answer.false if answer else None,
        "statements": each,
        "attempts": judgement.attempts,
        "reasoning": judgement.confidence("reasoning", config.probability),
        "answer": judgement.confidence("answer", config.probability),
        "raw": judgement.confidence(config.confidence, "raw"),
        "confidence": judgement.confidence(config.confidence, config.probability),
        "failure": failure(trace, judgement, config),
    }


def failure(trace: Trace, judgement: Judgement, config: JudgeConfig) -> str | None:
    """Why a trace has no confidence, None where it has one."""
    if judgement.confidence(config.confidence, config.probability) is not None:
        return None
    kinds = ("reasoning", "answer") if config.confidence == "composite" else (config.confidence,)
    if "reasoning" in kinds and not trace.text.strip():
        return "no text"
    if "answer" in kinds and trace.answer is None:
        return f"no answer: {trace.failure}"
    if ("reasoning" in kinds and not judgement.reasoning) or ("answer" in kinds and judgement.answer is None):
        return TOO_LONG
    return f"the model gives {config.true_word} and {config.false_word} no probability at all"


def counts_of_judging(rows: Iterable[Mapping[str, Any]]) -> dict[str, int | float | None]:
    """Traces, those without a confidence, those too long for one, and the mean probability of both words together."""
    traces = without_confidence = too_long = said = 0
    spoken = 0.0
    for row in rows:
        traces += 1
        without_confidence += row["confidence"] is None
        too_long += row.get("failure") == TOO_LONG
        for kind in ("reasoning", "answer"):
            if row[f"{kind}_true"] is not None:
                said += 1
                spoken += row[f"{kind}_true"] + row[f"{kind}_false"]
    return {
        "traces": traces,
        "without_confidence": without_confidence,
        "too_long": too_long,
        "spoken": spoken / said if said else None,
    }
