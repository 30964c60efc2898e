"""What scoring writes: shards of traces with their statistics, in a folder bound to what they were made from."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rlsf.confidence.span import answer_disparity
from rlsf.errors import InputError
from rlsf.files import atomic_path, read_json, write_json
from rlsf.pipeline.folder import OwnedFolder
from rlsf.pipeline.shards import SHARD_BYTES, STAMP, shard_path, trace_bytes
from rlsf.recipes.resolve import differences
from rlsf.traces import Trace, traces_to_table

_SUMMARY = b"rlsf.scored"
_DIGEST, _SHORT = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b"), r"\1..."


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """What one shard holds; shards add up. ``disparity`` is the sum of ``answer_disparity`` over the answers.

    ``tokens`` are those that were scored, ``why`` is the reason of the first trace without any.
    """

    traces: int = 0
    tokens: int = 0
    unscored: int = 0
    answers: int = 0
    disparity: float = 0.0
    why: str = ""

    def __add__(self, other: ShardSummary) -> ShardSummary:
        mine, theirs = asdict(self), asdict(other)
        added = {key: mine[key] + theirs[key] for key in mine}
        return ShardSummary(**{**added, "why": self.why or other.why})

    @classmethod
    def of(cls, traces: Sequence[Trace]) -> ShardSummary:
        answered = [trace for trace in traces if trace.answer is not None]
        scored = [int((trace.statistics.top1_id >= 0).sum()) for trace in traces]
        reasons = (trace.failure or "" for trace, tokens in zip(traces, scored, strict=True) if not tokens)
        return cls(
            traces=len(traces),
            tokens=sum(scored),
            unscored=scored.count(0),
            answers=len(answered),
            disparity=sum(answer_disparity(trace, ()) for trace in answered),
            why=next(reasons, ""),
        )


class ScoredFolder(OwnedFolder):
    """Where scored traces go: ``scoring.json``, then shards in order, then the manifest."""

    @property
    def config_file(self) -> Path:
        return self.path / "scoring.json"

    @property
    def _preliminary(self) -> set[Path]:
        return {self._lock_file, self.config_file}

    def kept_config(self) -> dict[str, Any]:
        """The configuration of what was begun here; empty where nothing was."""
        return read_json(self.config_file)["config"] if self.config_file.is_file() else {}

    def open(self, config: Mapping[str, Any], inputs: Mapping[str, Any], *, resume: bool) -> None:
        """Start here, or go on; raises ``InputError`` naming what differs from what was begun."""
        started = self.take(resume=resume)
        if not (started and self.config_file.exists()):
            write_json(self.config_file, {"config": config, "inputs": inputs})
        elif changed := "; ".join(differences(read_json(self.config_file)["inputs"], inputs)):
            self.close()
            raise InputError(
                f"{self.path} was made from other inputs ({_DIGEST.sub(_SHORT, changed)}): resume it with the same"
                " ones, or choose another --output"
            )

    def shards(self, stamp: str) -> Iterator[tuple[ShardSummary, dict[str, Any]]]:
        """What the finished shards hold, and how they were scored; nothing of them but their footers is read."""
        kept = (self.kept_shard(number, stamp) for number in itertools.count())
        return (shard for shard in itertools.takewhile(lambda shard: shard is not None, kept) if shard)

    def kept_shard(self, number: int, stamp: str) -> tuple[ShardSummary, dict[str, Any]] | None:
        """The same of one shard, None where it is still to do; workers may have finished later ones before it."""
        path = self._shard(number)
        metadata = (pq.read_schema(path).metadata or {}) if path.exists() else {}
        if metadata.get(STAMP) != stamp.encode():
            return None
        content = json.loads(metadata[_SUMMARY])
        return ShardSummary(**content["summary"]), content["scored_by"]

    def write_shard(
        self, number: int, traces: Sequence[Trace], stamp: str, scored_by: Mapping[str, Any]
    ) -> ShardSummary:
        """Write a shard in one step."""
        summary = ShardSummary.of(traces)
        note = json.dumps({"summary": asdict(summary), "scored_by": scored_by}).encode()
        table = traces_to_table(traces).replace_schema_metadata({STAMP: stamp.encode(), _SUMMARY: note})
        with atomic_path(self._shard(number)) as partial:
            pq.write_table(table, partial, compression="zstd")
        return summary

    def _shard(self, number: int) -> Path:
        return shard_path(self.path, number)


def cut_into_shards(traces: Iterable[Trace], most: int) -> Iterator[list[Trace]]:
    """Runs of ``most`` traces, of fewer where these are long; where it cuts depends on nothing but the traces.

    The traces of a prompt stay together, up to twice as many: who reads a shard finds whole groups.
    """
    shard: list[Trace] = []
    size = 0
    for trace in traces:
        ends_group = bool(shard) and trace.prompt_id != shard[-1].prompt_id
        if size >= SHARD_BYTES or len(shard) >= 2 * most or (ends_group and len(shard) >= most):
            yield shard
            shard, size = [], 0
        shard.append(trace)
        size += trace_bytes(len(trace.token_ids), len(trace.prompt_token_ids))
    if shard:
        yield shard
