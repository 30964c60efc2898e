"""The sampling stage: prompts to Parquet shards of traces with statistics and answers, resumable shard by shard."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.files import atomic_path, digest
from rlsf.models.config import ModelConfig
from rlsf.pipeline.answering import CountingEngine, find_answers
from rlsf.pipeline.context import Run, sampling_inputs
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.missing_answers import no_answer
from rlsf.pipeline.rescored import is_rescored, measuring_engine_for
from rlsf.pipeline.shards import ShardCounts, cut_prompts, finished_shards, shard_path, shard_paths
from rlsf.pipeline.waves import Waves, most_tokens
from rlsf.prompts import render
from rlsf.prompts.prompt import Prompt
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.pool import engine_for
from rlsf.traces import Trace, table_to_traces, traces_to_table
from rlsf.training.spending import UNCAPPED, Allowance


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
    allowed: Allowance = UNCAPPED,
) -> Manifest:
    """Sample traces for ``prompts`` into ``folder``; shards that an interrupted run finished are kept.

    ``warns``: say how many traces were cut or have no answer. Under a cap prompts are taken in their order, as long as
    the longest possible traces of the next one fit (``Waves``); the manifest counts those taken. Raises ``InputError``
    where not even one fits.
    """
    inputs = sampling_inputs(run, model, prompts, seed, sampling)
    cap, most = allowed.generated_tokens, most_tokens(run.recipe, sampling)
    if cap is not None:
        allowed.require("generated_tokens", most, f"the first prompt of `{title}`")
        inputs["generated_tokens"] = cap
    done = finished(folder, "sample", inputs)
    if done is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    stamp = digest(inputs)
    kept = finished_shards(folder, stamp)
    total, shards, started = ShardCounts(), 0, time.monotonic()
    waves, coming = Waves(len(prompts), cap, most), iter(prompts)

    def task(path: Path, asked: Sequence[Prompt]) -> ShardTask:
        return _task(run, model, asked, seed, sampling, path, stamp)

    with run.progress.stage(title, len(prompts), sum(counts.prompts for counts in kept.values())) as advance:
        for wave in waves:
            cut = enumerate(cut_prompts(itertools.islice(coming, wave), sampling), shards)
            places = ((shard_path(folder, number), asked) for number, asked in cut)
            made = _make_shards(run, places, kept, task, advance)
            of_wave = sum(made, ShardCounts())
            total, shards = total + of_wave, shards + len(made)
            waves.pay(of_wave.all_tokens)
    manifest = Manifest("sample", inputs, {**asdict(total), "shards": shards})
    run.metrics.record({"event": "sampling", "phase": title, "seconds": time.monotonic() - started, **asdict(total)})
    manifest.write(folder)
    if warns:
        _warn(run, title, total)
    return manifest


def require_answers(run: Run, title: str, sampled: Manifest) -> None:
    """Raise ``InputError`` where not one trace has an answer: there is nothing to learn from or to measure."""
    counts, recipe = sampled.counts, run.recipe
    if counts["without_answer"] < counts["traces"]:
        return
    limit = "sampling.max_new_tokens", recipe.sampling.max_new_tokens
    look = "look at some with `rlsf check`"
    said = no_answer(recipe, look, cut=counts["truncated"], traces=counts["traces"], limit=limit)
    if recipe.online is not None and run.folder.warm_policy.exists():
        said = (
            f"no trace has an answer in the format answer.format={recipe.answer.format}: online.warm_up.steps="
            f"{recipe.online.warm_up.steps} did not teach it: raise that number, or online.warm_up.learning_rate"
        )
    raise InputError(f"{title}: {said}")


def make_shard(task: ShardTask) -> ShardCounts:
    """Sample one shard and write it; runs in a worker process."""
    engine = engine_for(task.model)
    measuring = measuring_engine_for(task.model, rescored=task.rescored)
    groups = list(measuring.sample(task.requests, task.sampling))
    asked = CountingEngine(engine)
    traces = find_answers(asked, engine.tokenizer, groups, task.choices, task.answer)
    counts = replace(ShardCounts.of(traces), asking_tokens=asked.tokens)
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


def _make_shards(
    run: Run,
    places: Iterable[tuple[Path, Sequence[Prompt]]],
    kept: Mapping[Path, ShardCounts],
    task: Callable[[Path, Sequence[Prompt]], ShardTask],
    advance: Callable[[int], None],
) -> list[ShardCounts]:
    """What each shard holds. Those that are not kept are made, each when a worker is free; others are only read."""
    found: list[ShardCounts] = []

    def missing() -> Iterator[ShardTask]:
        for path, asked in places:
            if path in kept:
                found.append(kept[path])
            else:
                yield task(path, asked)

    for _, counts in run.pool.map_shards(make_shard, missing()):
        found.append(counts)
        advance(counts.prompts)
        run.metrics.tick()
    return found


def _task(
    run: Run,
    model: ModelConfig,
    prompts: Sequence[Prompt],
    seed: int,
    sampling: SamplingConfig,
    path: Path,
    stamp: str,
) -> ShardTask:
    return ShardTask(
        model=model,
        sampling=sampling,
        answer=run.recipe.answer,
        requests=tuple(requests(run, prompts, seed)),
        choices=tuple(prompt.choices for prompt in prompts),
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
