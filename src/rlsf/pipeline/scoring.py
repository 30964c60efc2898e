"""The scoring stage: token statistics of traces that exist, from one forward pass each, resumable shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlsf.errors import InputError
from rlsf.files import digest
from rlsf.models import (
    check_vocabulary,
    context_length,
    eos_token_ids,
    load_model,
    load_tokenizer,
    model_fingerprint,
)
from rlsf.pipeline.given import GivenTraces, look_at
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.pipeline.scored_shards import ScoredFolder, ShardSummary, cut_into_shards
from rlsf.pipeline.scoring_config import ScoringConfig
from rlsf.sampling.executor import ExecutorOptions
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace

if TYPE_CHECKING:
    from rlsf.scoring import Scorer

#: What of the configuration decides the result, besides the contents of model and traces.
_DECISIVE = {"positions", "columns", "answer", "chat_arguments", "shard_traces"}


@dataclass(frozen=True, slots=True)
class ScoringTask:
    """All that a worker needs to score one shard."""

    config: ScoringConfig
    traces: list[Trace]
    folder: str
    number: int
    stamp: str


def score_stage(
    config: ScoringConfig,
    output: Path,
    *,
    resume: bool = False,
    progress: ProgressDisplay | None = None,
    executor: ExecutorOptions | None = None,
) -> Manifest:
    """Score the traces of ``config`` into the folder ``output``; shards that an interrupted run finished are kept.

    ``executor``: what scores, by default this process with all its threads. Everything that can be seen without the
    model's weights is looked at before the folder is taken. Raises ``InputError`` for unusable traces, options and
    folders, ``ModelError`` where the model misbehaves.
    """
    progress, executor = progress or ProgressDisplay(), executor or ExecutorOptions()
    executor.require_usable()
    given = look_at(config)
    for warning in given.warnings:
        progress.warn(warning)
    inputs = {
        "model": {"fingerprint": model_fingerprint(config.model), "dtype": config.model.dtype},
        "traces": given.files.digest,
        **config.model_dump(mode="json", include=_DECISIVE),
    }
    folder = ScoredFolder(output)
    folder.open(config.model_dump(mode="json"), inputs, resume=resume)
    try:
        return finished(output, "score", inputs) or _score(given, folder, inputs, progress, executor)
    finally:
        _scorers.clear()
        folder.close()


def _score(
    given: GivenTraces,
    folder: ScoredFolder,
    inputs: dict[str, Any],
    progress: ProgressDisplay,
    executor: ExecutorOptions,
) -> Manifest:
    stamp, config = digest(inputs), given.config
    shards = dict(enumerate(folder.shards(stamp)))
    done = sum(summary.traces for summary, _ in shards.values())
    if done < given.count:
        workers = "auto" if executor.executor == "ray" else 1
        opening = executor.open(config.model, workers, folder.path, progress.warn)
        with opening as pool, progress.stage("score", given.count, done) as advance:
            eos_ids = () if given.files.recorded else dict(pool.map_shards(ends_of, [config]))[0]
            tasks = _tasks(given, folder, stamp, shards, done, eos_ids, advance)
            # This process tells of every trace, others of every shard.
            work = score_shard if executor.spreads else partial(score_shard, advance=advance)
            for number, summary, scored_by in (answer for _, answer in pool.map_shards(work, tasks)):
                shards[number] = (summary, scored_by)
                if executor.spreads:
                    advance(summary.traces)
    in_order = [shards[number] for number in sorted(shards)]
    total, scored_by = sum((summary for summary, _ in in_order), ShardSummary()), in_order[-1][1]
    if total.unscored == total.traces:
        raise InputError(
            f"{config.traces}: not one of its {total.traces} traces could be scored, the first because: {total.why};"
            f" delete {folder.path} before you try again"
        )
    manifest = Manifest("score", inputs, {**asdict(total), "shards": len(shards), **scored_by})
    manifest.write(folder.path)
    return manifest


def _tasks(
    given: GivenTraces,
    folder: ScoredFolder,
    stamp: str,
    shards: dict[int, tuple[ShardSummary, dict[str, Any]]],
    done: int,
    eos_ids: tuple[int, ...],
    advance: Callable[[int], None],
) -> Iterator[ScoringTask]:
    """What is still to do after the first ``done`` traces; what is finished already joins ``shards``."""
    cut = cut_into_shards(given.read(eos_ids, done), given.config.shard_traces)
    for number, traces in enumerate(cut, len(shards)):
        kept = folder.kept_shard(number, stamp)
        if kept is None:
            yield ScoringTask(given.config, traces, str(folder.path), number, stamp)
        else:
            shards[number] = kept
            advance(len(traces))


class _Scorers:
    """The one scorer that a process holds, with what it was loaded for."""

    def __init__(self) -> None:
        self._held: tuple[ScoringConfig, Scorer] | None = None

    def get(self, config: ScoringConfig) -> Scorer:
        if self._held is None or self._held[0] != config:
            from rlsf.scoring import Scorer

            self.clear()
            model, tokenizer = load_model(config.model), load_tokenizer(config.model)
            check_vocabulary(model, tokenizer)
            self._held = (config, Scorer(model, tokenizer, batch_tokens=config.batch_tokens))
        return self._held[1]

    def clear(self) -> None:
        self._held = None


_scorers = _Scorers()


def ends_of(config: ScoringConfig) -> tuple[int, ...]:
    """The ids that end a trace of the model; runs in a worker process."""
    return eos_token_ids(_scorers.get(config).model, load_tokenizer(config.model))


def score_shard(
    task: ScoringTask, advance: Callable[[int], None] = lambda _: None
) -> tuple[int, ShardSummary, dict[str, Any]]:
    """Score one shard and write it: its number, what it holds and how it was scored; runs in a worker process."""
    scorer = _scorers.get(task.config)
    scored_by = {"way": scorer.way, "reason": scorer.reason}
    scored = _scored(scorer, task.traces, task.config, advance)
    summary = ScoredFolder(Path(task.folder)).write_shard(task.number, scored, task.stamp, scored_by)
    task.traces.clear()  # else it is held while the next one is read
    return task.number, summary, scored_by


def _scored(
    scorer: Scorer, traces: Sequence[Trace], config: ScoringConfig, advance: Callable[[int], None]
) -> list[Trace]:
    """The traces with statistics; one that cannot be scored is kept, with the reason and without statistics."""
    context = context_length(scorer.model)
    reasons = [_unscorable(trace, context) for trace in traces]
    fit = (trace for trace, reason in zip(traces, reasons, strict=True) if reason is None)
    measured = scorer.score(fit, positions=config.positions)
    scored: list[Trace] = []
    for trace, reason in zip(traces, reasons, strict=True):
        if reason is None:
            scored.append(next(measured))
        else:
            missing = TokenStatistics.missing(len(trace.token_ids), scorer.vocabulary_size)
            scored.append(replace(trace, statistics=missing, answer=None, failure=reason))
        advance(1)
    return scored


def _unscorable(trace: Trace, context: int | None) -> str | None:
    length = len(trace.prompt_token_ids) + len(trace.token_ids)
    if not len(trace.prompt_token_ids):
        return trace.failure or "the prompt has no tokens"
    if not len(trace.token_ids):
        return "the completion is empty"
    if context is not None and length > context:
        return f"prompt and completion have {length} tokens and the model's context {context}"
    return None
