"""The sampling stage: prompts to Parquet shards of traces with statistics and answers, resumable shard by shard."""

from __future__ import annotations

import itertools
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.files import atomic_path, digest
from rlsf.models.config import ModelConfig
from rlsf.pipeline.answering import find_answers
from rlsf.pipeline.context import Run, sampling_inputs
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.rescored import is_rescored, measuring_engine_for
from rlsf.pipeline.shards import ShardCounts, cut_prompts, finished_shards, shard_path, shard_paths
from rlsf.prompts import render
from rlsf.prompts.prompt import Prompt
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.pool import engine_for
from rlsf.traces import Trace, table_to_traces, traces_to_table


@dataclass(frozen=True, slots=True)
class ShardTask:
    """All that a worker needs to make one shard."""

    model: ModelConfig
    sampling: SamplingConfig
    answer: AnswerConfig
    requests: tuple[SamplingRequest, ...]
    choices: tuple[tuple[str, ...], ...]
    path: str
    stamp: str
    rescored: bool = False
    """Whether statistics that the engine does not record are measured by a forward pass."""


def sample_stage(
    run: Run,
    title: str,
    model: ModelConfig,
    prompts: Sequence[Prompt],
    folder: Path,
    seed: int,
    sampling: SamplingConfig,
    *,
    warns: bool = True,
) -> Manifest:
    """Sample traces for ``prompts`` into ``folder``; shards that an interrupted run finished are kept.

    ``warns``: say how many traces were cut or have no answer.
    """
    inputs = sampling_inputs(run, model, prompts, seed, sampling)
    done = finished(folder, "sample", inputs)
    if done is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    stamp = digest(inputs)
    kept = finished_shards(folder, stamp)
    total, shards = sum(kept.values(), ShardCounts()), len(kept)
    tasks = _tasks(run, model, prompts, folder, seed, sampling, stamp, kept)
    started = time.monotonic()
    with run.progress.stage(title, len(prompts), total.prompts) as advance:
        for _, counts in run.pool.map_shards(make_shard, tasks):
            total, shards = total + counts, shards + 1
            advance(counts.prompts)
    manifest = Manifest("sample", inputs, {**asdict(total), "shards": shards})
    run.metrics.record({"event": "sampling", "phase": title, "seconds": time.monotonic() - started, **asdict(total)})
    manifest.write(folder)
    if warns:
        _warn(run, title, total)
    return manifest


def require_answers(run: Run, title: str, sampled: Manifest) -> None:
    """Raise ``InputError`` where not one trace has an answer: there is nothing to learn from or to measure."""
    if sampled.counts["without_answer"] == sampled.counts["traces"]:
        online = run.recipe.online
        remedy = "look at some with `rlsf check`, then choose the format that they end with"
        if online is not None and run.folder.warm_policy.exists():
            remedy = (
                f"online.warm_up.steps={online.warm_up.steps} did not teach it: raise that number, or"
                " online.warm_up.learning_rate"
            )
        elif online is not None and (online.rewards.brier_calibration or online.rewards.self_verification):
            remedy += ", or teach the form with online.warm_up.steps"
        raise InputError(
            f"{title}: no trace has an answer in the format answer.format={run.recipe.answer.format}: {remedy}"
        )


def make_shard(task: ShardTask) -> ShardCounts:
    """Sample one shard and write it; runs in a worker process."""
    engine = engine_for(task.model)
    measuring = measuring_engine_for(task.model, rescored=task.rescored)
    groups = list(measuring.sample(task.requests, task.sampling))
    traces = find_answers(engine, engine.tokenizer, groups, task.choices, task.answer)
    counts = ShardCounts.of(traces)
    table = traces_to_table(traces).replace_schema_metadata(counts.note(task.stamp))
    with atomic_path(Path(task.path)) as partial:
        pq.write_table(table, partial, compression="zstd")
    return counts


def read_traces(folder: Path) -> Iterator[list[Trace]]:
    """The traces of a stage, one prompt at a time, in the order of the prompts."""
    for path in shard_paths(folder):
        yield from read_shard(path)


def read_shard(path: Path) -> Iterator[list[Trace]]:
    """The traces of one shard, one prompt at a time."""
    traces = table_to_traces(pq.read_table(path))
    for _, group in itertools.groupby(traces, key=lambda trace: trace.prompt_id):
        yield list(group)


def _tasks(
    run: Run,
    model: ModelConfig,
    prompts: Sequence[Prompt],
    folder: Path,
    seed: int,
    sampling: SamplingConfig,
    stamp: str,
    kept: Container[Path],
) -> Iterator[ShardTask]:
    """The shards that are not kept, each made when a worker is free for it; prompts of those kept are only read."""
    for number, shard in enumerate(cut_prompts(prompts, sampling)):
        path = shard_path(folder, number)
        if path in kept:
            continue
        yield ShardTask(
            model=model,
            sampling=sampling,
            answer=run.recipe.answer,
            requests=tuple(requests(run, shard, seed)),
            choices=tuple(prompt.choices for prompt in shard),
            path=str(path),
            stamp=stamp,
            rescored=is_rescored(model, run.recipe),
        )


def requests(run: Run, prompts: Sequence[Prompt], seed: int) -> Iterator[SamplingRequest]:
    """Rendered prompts, each with the seed that alone decides its random numbers."""
    for prompt in prompts:
        yield SamplingRequest(prompt.id, render(prompt, run.tokenizer, run.recipe.render).token_ids, seed)


def _warn(run: Run, title: str, total: ShardCounts) -> None:
    if total.truncated:
        run.progress.warn(
            f"{title}: {total.truncated} of {total.traces} traces were cut at sampling.max_new_tokens="
            f"{run.recipe.sampling.max_new_tokens}; raise it if these are unfinished answers"
        )
    if total.without_answer:
        run.progress.warn(
            f"{title}: {total.without_answer} of {total.traces} traces have no answer in the format"
            f" answer.format={run.recipe.answer.format}"
        )
