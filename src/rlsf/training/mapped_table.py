"""Tables that lie on disk, for data that need not fit the memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from rlsf.files import PARTIAL, writing

#: Rows that are in memory while a table is written.
ROWS = 4096


def mapped_table(parts: Iterable[pa.Table], schema: pa.Schema, folder: Path) -> pa.Table:
    """The rows of ``parts`` as one memory-mapped table: what is looked at is read from disk, and no more.

    It lies in ``folder``, uncompressed, in a file that loses its name at once: the room is free again when the table
    goes or the process ends, however that happens. Raises ``ResourceError`` where there is none.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".table-", suffix=PARTIAL) as file:
            with pa.ipc.new_stream(file, schema) as stream:
                for part in parts:
                    stream.write_table(part)
            file.flush()
            with pa.memory_map(file.name) as source, pa.ipc.open_stream(source) as reader:
                return reader.read_all()
