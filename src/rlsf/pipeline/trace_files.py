"""Traces that exist already, in our own Parquet shards or in files of another engine, read a piece at a time."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.errors import InputError, near_names
from rlsf.files import digest, file_digest
from rlsf.models.folder import one_line
from rlsf.pipeline.completions import Completions, read_completions
from rlsf.pipeline.scoring_config import CompletionColumns
from rlsf.pipeline.shards import shard_paths
from rlsf.prompts.fields import Row
from rlsf.prompts.files import json_rows
from rlsf.tokenstats.statistics import STATISTIC_NAMES
from rlsf.traces import TRACE_SCHEMA, Trace, table_to_traces

_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_SUFFIXES = (".parquet", *_LINES, ".json", ".json.gz")
#: Rows of a Parquet file that are held at a time.
_ROWS = 256
#: Bytes of a file that are held at a time.
_BUFFER = 2**20
#: All that a trace is but for the statistics, which are computed afresh.
_COLUMNS = pa.schema([field for field in TRACE_SCHEMA if field.name not in STATISTIC_NAMES])
_IDS = pa.schema([_COLUMNS.field(name) for name in ("prompt_token_ids", "token_ids")])


@dataclass(frozen=True, slots=True)
class TraceFiles:
    """Files of traces in reading order; ``recorded`` where rlsf itself wrote them."""

    paths: tuple[Path, ...]
    recorded: bool

    @property
    def digest(self) -> str:
        """Identifies the contents, wherever they lie."""
        return digest([file_digest(path) for path in self.paths])


def find_traces(place: Path) -> TraceFiles:
    """The traces in a file, a folder of shards or a run folder.

    Raises ``InputError`` where there are none, and for a run of several rounds, of which one must be named.
    """
    if place.is_dir():
        paths = _files_of(place)
    elif place.exists():
        paths = [place]
    else:
        siblings = [entry.name for entry in place.parent.iterdir()] if place.parent.is_dir() else []
        raise InputError(f"no such file or folder: {place}{near_names(place.name, siblings)}")
    kinds = {_is_recorded(path) for path in paths}
    if len(kinds) > 1:
        raise InputError(f"{place} holds traces of rlsf beside files of other columns: name one of them")
    return TraceFiles(tuple(paths), kinds.pop())


def scored_beside(place: Path) -> Path:
    """Where scored traces go by default: ``mine.jsonl`` to ``mine.scored``, a folder to ``<folder>.scored``."""
    return beside(place, "scored")


def beside(place: Path, ending: str) -> Path:
    """The folder beside traces for what is made of them: their name with another ending."""
    known = next((suffix for suffix in _SUFFIXES if place.name.endswith(suffix)), "")
    return place.with_name(f"{place.resolve().name.removesuffix(known)}.{ending}")


def count_recorded(files: TraceFiles, vocabulary_size: int) -> int:
    """How many traces there are; raises ``InputError`` for token ids outside the vocabulary."""
    return sum(_count_rows(path, vocabulary_size) for path in files.paths)


def _count_rows(path: Path, vocabulary_size: int) -> int:
    count = 0
    for table in _tables(path, _IDS):
        for name in table.column_names:
            lists = table.column(name).combine_chunks()
            wrong = _outside(lists.flatten().to_numpy(zero_copy_only=False), vocabulary_size)
            if wrong is not None:
                row = lists.value_parent_indices()[wrong[0]].as_py()
                raise _foreign_id(f"{path}: row {count + row + 1}", wrong[1], vocabulary_size)
        count += table.num_rows
    return count


def read_recorded(files: TraceFiles, skip: int = 0) -> Iterator[Trace]:
    """Our own traces after the first ``skip``, without their statistics; row groups of skipped ones are not read."""
    for path in files.paths:
        with _parquet(path) as parquet:
            rows = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        ends = list(itertools.accumulate(rows))
        passed = sum(end <= skip for end in ends)
        within = skip - (ends[passed - 1] if passed else 0)
        skip = max(0, skip - sum(rows))
        if passed == len(rows):
            continue
        for table in _tables(path, _COLUMNS, range(passed, len(rows))):
            here = min(within, table.num_rows)
            within -= here
            yield from table_to_traces(table.slice(here))


def count_records(files: TraceFiles, columns: CompletionColumns, vocabulary_size: int) -> int:
    """How many traces the records make; raises ``InputError`` for a malformed one and for ids outside the vocabulary.

    Reads everything once and encodes nothing: moments, where scoring takes hours.
    """
    count = 0
    for record in read_records(files, columns):
        count += len(record.samples)
        for ids in (record.prompt_token_ids, *(sample.token_ids for sample in record.samples)):
            if ids is not None and (wrong := _outside(ids, vocabulary_size)):
                raise _foreign_id(record.place, wrong[1], vocabulary_size)
    return count


def read_records(files: TraceFiles, columns: CompletionColumns) -> Iterator[Completions]:
    """The records of another engine's files; raises ``InputError`` with the place of the first that is malformed."""
    return (read_completions(row, columns) for row in read_rows(files))


def read_rows(files: TraceFiles) -> Iterator[Row]:
    """The records of another engine's files as they are, each with its place."""
    for path in files.paths:
        yield from _parquet_rows(path) if path.suffix == ".parquet" else json_rows(path)


def _outside(ids: np.ndarray, vocabulary_size: int) -> tuple[int, int] | None:
    """Place and value of the first id that the vocabulary lacks."""
    wrong = np.flatnonzero((ids < 0) | (ids >= vocabulary_size))
    return (int(wrong[0]), int(ids[wrong[0]])) if len(wrong) else None


def _foreign_id(place: str, token_id: int, vocabulary_size: int) -> InputError:
    return InputError(
        f"{place}: token id {token_id} is outside the model's vocabulary of {vocabulary_size} tokens: score with the"
        " model that these ids belong to, or by text alone"
    )


def _files_of(folder: Path) -> list[Path]:
    if shards := shard_paths(folder):
        return shards
    rounds = {path.parent for below in ("round-*", "traces/round-*") for path in folder.glob(f"{below}/part-*.parquet")}
    if len(rounds) > 1:
        raise InputError(f"{folder} has the traces of {len(rounds)} rounds: name one, {min(rounds)} for instance")
    if rounds:
        return shard_paths(rounds.pop())
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    for kind in ((".parquet",), _LINES):
        if fitting := [entry for entry in files if entry.name.endswith(kind)]:
            return fitting
    names = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    raise InputError(
        f"{folder}: no traces in it: give a file, a folder of Parquet shards or a run folder; there are: {names}"
    )


def _is_recorded(path: Path) -> bool:
    if not path.name.endswith(_SUFFIXES):
        raise InputError(f"{path}: unknown suffix {path.suffix!r}: use {', '.join(_SUFFIXES)}")
    if path.suffix != ".parquet":
        return False
    with _parquet(path) as parquet:
        return set(_COLUMNS.names) <= set(parquet.schema_arrow.names)


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """An open Parquet file that is read through a small buffer; damage becomes an ``InputError``."""
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as parquet:
            yield parquet
    except PermissionError as error:
        raise InputError(f"{path}: not allowed to read this file: mend its permissions") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file, or damaged ({one_line(error)})") from error


def _tables(path: Path, schema: pa.Schema | None = None, groups: Sequence[int] | None = None) -> Iterator[pa.Table]:
    """The columns of ``schema``, or all of them, a few rows at a time."""
    names = None if schema is None else schema.names
    with _parquet(path) as parquet:
        for batch in parquet.iter_batches(_ROWS, columns=names, row_groups=groups):
            table = pa.Table.from_batches([batch])
            yield table if schema is None else table.select(schema.names).cast(schema)


def _parquet_rows(path: Path) -> Iterator[Row]:
    numbers = itertools.count(1)
    for table in _tables(path):
        for record in table.to_pylist():
            yield Row(f"{path}: row {next(numbers)}", record)
