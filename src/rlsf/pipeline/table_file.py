"""A Parquet file that is written a table at a time and read a few rows at a time, and is whole or absent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.files import atomic_path

#: A row group is written once it has so many rows or takes so many bytes.
_ROWS, _BYTES = 2**14, 16 * 2**20
#: Rows that are read at a time, and bytes of the file that are.
_READ_ROWS, _READ_BYTES = 256, 2**20


@contextlib.contextmanager
def writing_rows(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends tables of ``schema``; the file appears in one step if the block succeeds.

    Rows are held until they fill a row group, whose size depends on the rows alone.
    """
    held: list[pa.Table] = []
    rows = size = 0

    def flush() -> None:
        nonlocal rows, size
        if rows:
            writer.write_table(pa.concat_tables(held), row_group_size=rows)
        held.clear()
        rows = size = 0

    def append(table: pa.Table) -> None:
        nonlocal rows, size
        held.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
        if rows >= _ROWS or size >= _BYTES:
            flush()

    with atomic_path(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        yield append
        flush()


def reading_rows(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a file, a few at a time."""
    with pq.ParquetFile(path, buffer_size=_READ_BYTES, pre_buffer=False) as parquet:
        for batch in parquet.iter_batches(_READ_ROWS, columns=columns):
            yield pa.Table.from_batches([batch])
