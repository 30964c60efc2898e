"""The ranking stage: traces to confidences to preference pairs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from rlsf.answers.token_text import TokenText
from rlsf.confidence import Signal, get_signal
from rlsf.pipeline.context import Run, require_sampled_prompts
from rlsf.pipeline.judging import judge_stage, read_judgements
from rlsf.pipeline.manifest import Manifest, finished, require
from rlsf.pipeline.metrics import spends
from rlsf.pipeline.sampling import read_shard
from rlsf.pipeline.served import require_servable
from rlsf.pipeline.shards import prompts_of_shards, shard_paths
from rlsf.pipeline.table_file import writing_rows
from rlsf.preferences import PREFERENCE_SCHEMA, RankingReport, rank_prompt
from rlsf.preferences.pairs import Pair
from rlsf.preferences.table import pairs_to_table
from rlsf.prompts import Prompt, render
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: A value for each trace of a prompt, None where there is none.
Values = Sequence[float | None]
#: The confidences of the traces of a prompt, and the raw values behind them.
Measure = Callable[[Sequence[Trace]], tuple[Values, Values]]
#: A trace, its confidence, and the raw value behind that.
MeasuredTrace = tuple[Trace, float | None, float | None]
_PAIRS_AT_A_TIME = 256
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


@spends("learning")
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
        **({"seed": recipe.seed} if recipe.ranking.order == "random" else {}),
    }
    folder = run.folder.preferences(round_)
    done = finished(folder, "rank", inputs)
    if done is not None:
        return done
    require_sampled_prompts(sampled, run)
    report = _rank(run, round_, folder, sampled.counts["prompts"])
    if report.without_confidence:
        judging = "the judge" if recipe.judge else recipe.signal
        run.progress.warn(
            f"{run.title('rank', round_)}: {report.without_confidence} of {report.traces} traces have an answer for"
            f" which {judging} has no value; they count as ranking.without_answer={recipe.ranking.without_answer}"
        )
    manifest = Manifest("rank", inputs, asdict(report))
    run.metrics.record({"event": "ranking", "round": round_, **asdict(report)})
    manifest.write(folder)
    return manifest


def _rank(run: Run, round_: int, folder: Path, prompts: int) -> RankingReport:
    """Write pairs and confidences of one prompt after the other; none are held but those of a few prompts."""
    measure = _judged(run, round_) if run.recipe.judge else _measured(run)
    config, report = run.recipe.ranking, RankingReport()
    with (
        run.progress.stage(run.title("rank", round_), prompts) as advance,
        writing_rows(folder / PAIRS, PREFERENCE_SCHEMA) as write_pairs,
        writing_rows(folder / CONFIDENCES, CONFIDENCE_SCHEMA) as write_confidences,
    ):
        pairs = _PairWriter(run, write_pairs)
        for path, asked in prompts_of_shards(shard_paths(run.folder.traces(round_)), run.prompts):
            measured: list[MeasuredTrace] = []
            for prompt, traces in zip(asked, read_shard(path), strict=True):
                values, raw = measure(traces)
                measured += zip(traces, values, raw, strict=True)
                found, of_prompt = rank_prompt(traces, values, config, run.recipe.seed)
                pairs.add(prompt, found)
                report += of_prompt
                advance(1)
            write_confidences(_confidence_table(measured))
        pairs.flush()
    return report


class _PairWriter:
    """Makes tables of pairs, a few hundred at a time."""

    def __init__(self, run: Run, write: Callable[[pa.Table], None]) -> None:
        self._run, self._write = run, write
        self._pairs: list[Pair] = []
        self._texts: dict[str, str] = {}

    def add(self, prompt: Prompt, pairs: Sequence[Pair]) -> None:
        """The pairs of a prompt."""
        for pair in pairs:
            if prompt.id not in self._texts:
                self._texts[prompt.id] = render(prompt, self._run.tokenizer, self._run.recipe.render).text
            self._pairs.append(pair)
            if len(self._pairs) >= _PAIRS_AT_A_TIME:
                self.flush()

    def flush(self) -> None:
        """Write what is held."""
        self._write(pairs_to_table(self._pairs, self._texts, self._run.recipe.ranking))
        self._pairs.clear()
        self._texts.clear()


def _measured(run: Run) -> Measure:
    """The signal's confidences of the traces of a prompt, and its raw values."""
    signal, tokenizer = get_signal(run.recipe.signal), run.tokenizer
    return lambda traces: (
        confidences(traces, signal, tokenizer),
        [signal.raw(trace, _pieces_for(signal, trace, tokenizer)) for trace in traces],
    )


def _judged(run: Run, round_: int) -> Measure:
    """The judge's confidences of the traces of a prompt, and the same of raw probabilities; prompts come in order."""
    judged = read_judgements(run.folder.judgements(round_))

    def measure(traces: Sequence[Trace]) -> tuple[Values, Values]:
        rows = list(itertools.islice(judged, len(traces)))
        assert [(row["prompt_id"], row["index"]) for row in rows] == [(one.prompt_id, one.index) for one in traces]
        return [row["confidence"] for row in rows], [row["raw"] for row in rows]

    return measure


def _confidence_table(measured: Iterable[MeasuredTrace]) -> pa.Table:
    rows = [
        {
            "prompt_id": trace.prompt_id,
            "index": trace.index,
            "answer": trace.answer_text,
            "raw": raw,
            "confidence": confidence,
        }
        for trace, confidence, raw in measured
    ]
    return pa.Table.from_pylist(rows, schema=CONFIDENCE_SCHEMA)
