"""The ranking stage: traces to confidences to preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.answers.token_text import TokenText
from rlsf.confidence import Signal, get_signal
from rlsf.files import atomic_path
from rlsf.pipeline.context import Run
from rlsf.pipeline.judging import judge_stage, read_judgements
from rlsf.pipeline.manifest import Manifest, finished, require
from rlsf.pipeline.sampling import read_traces
from rlsf.pipeline.served import require_servable
from rlsf.preferences import rank
from rlsf.prompts import render
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: A value for each trace of each prompt, None where there is none.
Values = Sequence[Sequence[float | None]]
PAIRS = "pairs.parquet"
CONFIDENCES = "confidences.parquet"

CONFIDENCE_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("answer", pa.string()),
        ("raw", pa.float64()),
        ("confidence", pa.float64()),
    ]
)


def confidences(traces: Sequence[Trace], signal: Signal, tokenizer: PreTrainedTokenizerBase) -> list[float | None]:
    """The signal's confidence of each trace, None where it has none."""
    return [signal.confidence(trace, _pieces_for(signal, trace, tokenizer)) for trace in traces]


def _pieces_for(signal: Signal, trace: Trace, tokenizer: PreTrainedTokenizerBase) -> Sequence[str]:
    """The text of each token where the signal looks at it; decoding long traces takes longer than measuring them."""
    return pieces_of(trace, tokenizer) if signal.needs_pieces else ()


def pieces_of(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> Sequence[str]:
    """The text of each token of a trace."""
    return TokenText.from_ids(tokenizer, trace.token_ids).pieces


def rank_stage(run: Run, round_: int) -> Manifest:
    """Rank the traces of a round and write the preference pairs and every confidence.

    These are the signal's, or, where the recipe has a judge, its P(True): traces that are not judged yet are first.
    """
    sampled = require(run.folder.traces(round_), "sample", f"sample --output {run.folder.path}")
    recipe = run.recipe
    require_servable(recipe, trains=False)
    inputs = {
        "traces": sampled.digest,
        **({"judgements": judge_stage(run, round_).digest} if recipe.judge else {"signal": recipe.signal}),
        "ranking": recipe.ranking.model_dump(mode="json"),
    }
    folder = run.folder.preferences(round_)
    done = finished(folder, "rank", inputs)
    if done is not None:
        return done
    traces = list(read_traces(run.folder.traces(round_)))
    measured, raw = _judged(run, round_, traces) if recipe.judge else _measured(run, round_, traces)
    texts = {prompt.id: render(prompt, run.tokenizer, recipe.render).text for prompt in run.prompts}
    pairs, report = rank(traces, measured, recipe.ranking, texts)
    if report.without_confidence:
        judging = "the judge" if recipe.judge else recipe.signal
        run.progress.warn(
            f"{run.title('rank', round_)}: {report.without_confidence} of {report.traces} traces have an answer for"
            f" which {judging} has no value; they count as ranking.without_answer={recipe.ranking.without_answer}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / PAIRS, pairs)
    _write(folder / CONFIDENCES, _confidence_table(traces, measured, raw))
    manifest = Manifest("rank", inputs, asdict(report))
    manifest.write(folder)
    run.metrics.record({"event": "ranking", "round": round_, **asdict(report)})
    return manifest


def _measured(run: Run, round_: int, traces: Sequence[Sequence[Trace]]) -> tuple[Values, Values]:
    """The signal's confidences of the traces of each prompt, and its raw values."""
    signal = get_signal(run.recipe.signal)
    measured, raw = [], []
    with run.progress.stage(run.title("rank", round_), len(traces)) as advance:
        for group in traces:
            measured.append(confidences(group, signal, run.tokenizer))
            raw.append([signal.raw(trace, _pieces_for(signal, trace, run.tokenizer)) for trace in group])
            advance(1)
    return measured, raw


def _judged(run: Run, round_: int, traces: Sequence[Sequence[Trace]]) -> tuple[Values, Values]:
    """The judge's confidences of the traces of each prompt, and the same of raw probabilities."""
    rows = {(row["prompt_id"], row["index"]): row for row in read_judgements(run.folder.judgements(round_)).to_pylist()}
    found = [[rows[trace.prompt_id, trace.index] for trace in group] for group in traces]
    return [[row["confidence"] for row in group] for group in found], [[row["raw"] for row in group] for group in found]


def _confidence_table(traces: Sequence[Sequence[Trace]], measured: Values, raw: Values) -> pa.Table:
    rows = [
        {
            "prompt_id": trace.prompt_id,
            "index": trace.index,
            "answer": trace.answer.text if trace.answer else None,
            "raw": raw_value,
            "confidence": confidence,
        }
        for group, values, raw_values in zip(traces, measured, raw, strict=True)
        for trace, confidence, raw_value in zip(group, values, raw_values, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=CONFIDENCE_SCHEMA)


def _write(path: Path, table: pa.Table) -> None:
    with atomic_path(path) as partial:
        pq.write_table(table, partial, compression="zstd")
