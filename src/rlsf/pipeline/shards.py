"""Shards: how prompts are cut into pieces of work, and what the file of each says of itself in its footer."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from rlsf.prompts.prompt import Prompt
from rlsf.sampling.config import SamplingConfig
from rlsf.traces import Trace

#: Under this key a shard says what it was made from.
STAMP = b"rlsf.inputs"
#: Under this key a shard of traces says what it holds.
COUNTS = b"rlsf.counts"
#: Bytes of traces that a shard holds at most, whatever their number; no stamp tells shards of another bound apart.
SHARD_BYTES = 128 * 2**20
#: Bytes of each token (its id and seven statistics), of a token of the prompt, and of a trace without tokens.
_TOKEN_BYTES, _PROMPT_TOKEN_BYTES, _TRACE_BYTES = 32, 4, 2048


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """What one shard holds; shards add up."""

    prompts: int = 0
    traces: int = 0
    tokens: int = 0
    without_answer: int = 0
    truncated: int = 0
    asking_tokens: int = 0
    """Tokens of answers that were asked for after the traces."""

    def __add__(self, other: ShardCounts) -> ShardCounts:
        mine, theirs = asdict(self), asdict(other)
        return ShardCounts(**{key: mine[key] + theirs[key] for key in mine})

    @property
    def all_tokens(self) -> int:
        """Every token that was sampled."""
        return self.tokens + self.asking_tokens

    @classmethod
    def of(cls, traces: Sequence[Trace]) -> ShardCounts:
        return cls(
            prompts=len({trace.prompt_id for trace in traces}),
            traces=len(traces),
            tokens=sum(len(trace.token_ids) for trace in traces),
            without_answer=sum(trace.answer is None for trace in traces),
            truncated=sum(trace.truncated for trace in traces),
        )

    def note(self, stamp: str) -> dict[bytes, bytes]:
        """What the footer of the shard says."""
        return {STAMP: stamp.encode(), COUNTS: json.dumps(asdict(self)).encode()}


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard, counted from 0."""
    return folder / f"part-{number:05d}.parquet"


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder in order, also where their numbers have more than five digits."""
    return sorted(folder.glob("part-*.parquet"), key=lambda path: (len(path.name), path.name))


def is_made_from(path: Path, stamp: str) -> bool:
    """Whether there is a shard that was made from these inputs; only its footer is read."""
    return _footer(path).get(STAMP) == stamp.encode()


def counts_of(path: Path) -> ShardCounts | None:
    """What a shard of traces holds, by its footer, None where that does not say."""
    return _counts(_footer(path))


def finished_shards(folder: Path, stamp: str) -> dict[Path, ShardCounts]:
    """The shards of traces in a folder that were made from these inputs, and what they hold."""
    footers = ((path, _footer(path)) for path in shard_paths(folder))
    counts = {path: _counts(footer) for path, footer in footers if footer.get(STAMP) == stamp.encode()}
    return {path: counted for path, counted in counts.items() if counted is not None}


def _footer(path: Path) -> dict[bytes, bytes]:
    return (pq.read_schema(path).metadata or {}) if path.exists() else {}


def _counts(footer: dict[bytes, bytes]) -> ShardCounts | None:
    return ShardCounts(**json.loads(footer[COUNTS])) if COUNTS in footer else None


def trace_bytes(tokens: int, prompt_tokens: int) -> int:
    """About how much memory a trace takes."""
    return _TOKEN_BYTES * tokens + _PROMPT_TOKEN_BYTES * prompt_tokens + _TRACE_BYTES


def cut_prompts(prompts: Iterable[Prompt], sampling: SamplingConfig) -> Iterator[list[Prompt]]:
    """Prompts in runs of ``sampling.shard_prompts``, of fewer where their traces could take more than ``SHARD_BYTES``.

    Where it cuts depends on the prompts and on the length and number of traces that are asked for, not on those that
    come out, so that workers and interrupted runs agree on it. A character of a prompt counts as a token.
    """
    shard: list[Prompt] = []
    size = 0
    for prompt in prompts:
        added = sampling.branches * trace_bytes(sampling.max_new_tokens, _characters(prompt))
        if shard and (len(shard) >= sampling.shard_prompts or size + added > SHARD_BYTES):
            yield shard
            shard, size = [], 0
        shard.append(prompt)
        size += added
    if shard:
        yield shard


def _characters(prompt: Prompt) -> int:
    turns = sum(len(turn.answer) + len(turn.reply) for turn in prompt.turns)
    return len(prompt.question) + sum(map(len, prompt.choices)) + turns


def prompts_of_shards(shards: Iterable[Path], prompts: Iterable[Prompt]) -> Iterator[tuple[Path, list[Prompt]]]:
    """Each shard of traces with the prompts that it holds the traces of; prompts come in the order of the shards."""
    remaining = iter(prompts)
    for path in shards:
        counts = counts_of(path)
        number = counts.prompts if counts else _prompts_in(path)
        yield path, list(itertools.islice(remaining, number))


def _prompts_in(path: Path) -> int:
    return len(pq.read_table(path, columns=["prompt_id"]).column("prompt_id").unique())
