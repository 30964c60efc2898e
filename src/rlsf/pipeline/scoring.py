"""The scoring stage: token statistics of traces that exist, from one forward pass each, resumable shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlsf.errors import InputError
from rlsf.files import digest
from rlsf.models import check_vocabulary, context_length, load_model, model_fingerprint
from rlsf.pipeline.given import GivenTraces, look_at
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.pipeline.scored_shards import ScoredFolder, ShardSummary, cut_into_shards
from rlsf.pipeline.scoring_config import ScoringConfig
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace

if TYPE_CHECKING:
    from rlsf.scoring import Scorer

#: What of the configuration decides the result, besides the contents of model and traces.
_DECISIVE = {"positions", "columns", "answer", "chat_arguments", "shard_traces"}


def score_stage(
    config: ScoringConfig, output: Path, *, resume: bool = False, progress: ProgressDisplay | None = None
) -> Manifest:
    """Score the traces of ``config`` into the folder ``output``; shards that an interrupted run finished are kept.

    Everything that can be seen without the model's weights is looked at before the folder is taken. Raises
    ``InputError`` for unusable traces, options and folders, ``ModelError`` where the model misbehaves.
    """
    progress = progress or ProgressDisplay()
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
        return finished(output, "score", inputs) or _score(given, folder, inputs, progress)
    finally:
        folder.close()


def _score(given: GivenTraces, folder: ScoredFolder, inputs: dict[str, Any], progress: ProgressDisplay) -> Manifest:
    stamp, config = digest(inputs), given.config
    kept = list(folder.shards(stamp))
    total = sum((summary for summary, _ in kept), ShardSummary())
    count, scored_by = len(kept), kept[-1][1] if kept else {}
    if total.traces < given.count:
        scorer = _load_scorer(given)
        scored_by = {"way": scorer.way, "reason": scorer.reason}
        with progress.stage("score", given.count, total.traces) as advance:
            for shard in cut_into_shards(given.read(scorer.model, total.traces), config.shard_traces):
                total += folder.write_shard(count, _scored(scorer, shard, config, advance), stamp, scored_by)
                count += 1
                shard.clear()  # else it is held while the next one is read
    if total.unscored == total.traces:
        raise InputError(
            f"{config.traces}: not one of its {total.traces} traces could be scored, the first because: {total.why};"
            f" delete {folder.path} before you try again"
        )
    manifest = Manifest("score", inputs, {**asdict(total), "shards": count, **scored_by})
    manifest.write(folder.path)
    return manifest


def _load_scorer(given: GivenTraces) -> Scorer:
    from rlsf.scoring import Scorer

    model = load_model(given.config.model)
    check_vocabulary(model, given.tokenizer)
    return Scorer(model, given.tokenizer, batch_tokens=given.config.batch_tokens)


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
